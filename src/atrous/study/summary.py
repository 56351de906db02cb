"""Summary of a study: scores of each run with intervals, beside published ones."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from atrous.engines import TTA
from atrous.errors import AtrousError
from atrous.evaluation import Convention, EvaluationReport, evaluate
from atrous.evaluation.bootstrap import Difference, Estimate
from atrous.evaluation.compare import compare
from atrous.evaluation.comparison import METHOD, RunDifference, RunScores
from atrous.evaluation.run_reader import load_evaluated_runs
from atrous.profile.cost import Cost
from atrous.recipe import load_recipe
from atrous.report.gallery import Gallery, build_gallery, choose_images
from atrous.report.html import render_page
from atrous.run import RunFolder
from atrous.study.definition import Score, Study, StudyRun
from atrous.study.runner import RunOutcome
from atrous.training.log import Listener, note

DEFAULT_CONVENTION = "dataset-macro"


@dataclass(frozen=True)
class StudyRow:
    """Results of one run of a study; None if missing.

    Attributes:
        miou: mIoU of the first seed, with its interval.
        miou_by_seed: mIoU of each finished seed.
        difference: Difference in mIoU to the first row, with its interval.
        is_significant: Whether it is significant, corrected for the number of rows.
        conventions: Scores of the first seed under every convention.
        paper: Published scores, in percent.
        departs: Differences of this run from the source.
        errors: Why seeds failed.
    """

    name: str
    miou: Estimate | None
    miou_by_seed: tuple[float, ...]
    boundary_iou: float | None
    difference: Difference | None
    is_significant: bool
    cost: Cost | None
    conventions: tuple[Convention, ...]
    paper: dict[Score, float]
    departs: str
    errors: tuple[str, ...]

    def select_averages(self, convention: str) -> tuple[Convention, ...]:
        """Return the scores under the default convention and under another one."""
        return tuple(one for one in self.conventions if one.key in (DEFAULT_CONVENTION, convention))


@dataclass(frozen=True)
class StudySummary:
    """Results of a study.

    Attributes:
        gallery: Predictions of all runs on the same images, if requested.
    """

    study: Study
    budget: str
    rows: tuple[StudyRow, ...]
    notes: tuple[str, ...]
    gallery: Gallery | None

    @property
    def cost(self) -> Cost | None:
        """The first measured cost; all were measured under the same conditions."""
        return next((row.cost for row in self.rows if row.cost), None)

    def to_json(self) -> dict[str, Any]:
        """Return plain values for a JSON file."""
        values = asdict(replace(self, gallery=None))
        del values["gallery"]
        return {**values, "study": self.study.model_dump(mode="json")}


def summarize(
    study: Study,
    outcomes: Sequence[RunOutcome],
    *,
    cost: bool = True,
    num_images: int = 1,
    device: str = "auto",
    listener: Listener = lambda event: None,
) -> StudySummary:
    """Evaluate and compare the finished runs.

    Args:
        cost: Also measure parameters, GFLOPs, latency and memory on this machine.
        num_images: Number of best, of median and of worst images of the first run to predict with
            all runs.
        listener: Called with events of kind `note` and a `message`.

    Raises:
        AtrousError: No run of the study finished.
    """
    finished = [outcome for outcome in outcomes if not outcome.error]
    if not finished:
        raise AtrousError(
            f"No run of the study finished. The first, {outcomes[0].folder.name}, "
            f"{outcomes[0].error}."
        )
    reports = {}
    for outcome in finished:
        note(listener, f"{outcome.folder.name}: evaluating")
        tta = TTA(scales=study.scales)
        reports[outcome.folder] = evaluate(outcome.folder, tta=tta, boundary=True, device=device)
    note(listener, "comparing")
    first_seeds = [outcome for outcome in finished if outcome.seed == 0] or finished[:1]
    folders = [outcome.folder for outcome in first_seeds]
    # A single run is compared with itself, which gives its interval.
    comparison = compare(folders if len(folders) > 1 else folders * 2, cost=cost, device=device)
    runs = load_evaluated_runs(folders)
    chosen = choose_images(runs[0], num_images)
    names = [outcome.run.name for outcome in first_seeds if outcome.seed == 0]
    scores = dict(zip(names, comparison.runs, strict=False))
    differences = dict(zip(names[1:], comparison.differences, strict=False))
    return StudySummary(
        study,
        _describe_budget(study, folders[0]),
        tuple(
            _build_row(
                run,
                [outcome for outcome in outcomes if outcome.run.name == run.name],
                reports,
                scores.get(run.name),
                differences.get(run.name),
            )
            for run in study.runs
        ),
        (*comparison.notes, METHOD),
        build_gallery(runs, chosen, device=device) if chosen else None,
    )


def render_study_page(summary: StudySummary) -> str:
    """Return a study as one HTML file for offline use."""
    return render_page("study.html", summary=summary, study=summary.study)


def _build_row(
    run: StudyRun,
    outcomes: Sequence[RunOutcome],
    reports: Mapping[Path, EvaluationReport],
    scores: RunScores | None,
    difference: RunDifference | None,
) -> StudyRow:
    own = [reports[outcome.folder] for outcome in outcomes if not outcome.error]
    return StudyRow(
        name=run.name,
        miou=scores.miou if scores else None,
        miou_by_seed=tuple(report.scores.miou for report in own),
        boundary_iou=own[0].boundary.boundary_iou if own and own[0].boundary else None,
        difference=difference.miou if difference else None,
        is_significant=difference.is_significant if difference else False,
        cost=scores.cost if scores else None,
        conventions=own[0].compute_conventions() if own else (),
        paper=run.paper,
        departs=run.departs,
        errors=tuple(
            f"seed {outcome.seed} {outcome.error}" for outcome in outcomes if outcome.error
        ),
    )


def _describe_budget(study: Study, folder: Path) -> str:
    recipe = load_recipe(RunFolder(folder).recipe)
    size = f"{recipe.data.size or recipe.data.crop} px"
    batch = recipe.train.batch_size * recipe.train.accumulate
    data = Path(recipe.data.root).name
    budget = f"{recipe.train.duration} of {batch} images per step at {size}, on {data}"
    scales = ", ".join(f"{scale:g}" for scale in study.scales)
    return budget if study.scales == (1.0,) else f"{budget}, evaluated at scale {scales}"
