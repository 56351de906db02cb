"""What a study found: a row per run, with intervals, beside the paper's figure."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from atrous.engines import Views
from atrous.errors import AtrousError
from atrous.evaluation import Convention, evaluate
from atrous.evaluation.bootstrap import Difference, Estimate
from atrous.evaluation.compare import compare
from atrous.evaluation.comparison import METHOD, RunDifference
from atrous.inference.cost import Cost
from atrous.recipe import load_recipe
from atrous.report.side_by_side import SideBySide, build_side_by_side
from atrous.run import RunFolder
from atrous.study.definition import Score, Study
from atrous.study.runner import RunOutcome

OWN_CONVENTION = "dataset-macro"


@dataclass(frozen=True)
class StudyRow:
    """One run of a study; what is not known is None.

    Attributes:
        name: Of the run.
        miou: Of its first seed, with the interval over pictures.
        miou_by_seed: Of each finished seed.
        boundary_iou: Of the first seed.
        difference: To the first row, with its interval over pictures.
        is_clear: Whether that difference is clear with all rows in mind.
        cost: What one picture costs.
        conventions: The first seed's scores under every convention.
        paper: What the source measured, in percent, by score.
        departs: In what this run departs from the source.
        errors: Why seeds of it failed.
    """

    name: str
    miou: Estimate | None
    miou_by_seed: tuple[float, ...]
    boundary_iou: float | None
    difference: Difference | None
    is_clear: bool
    cost: Cost | None
    conventions: tuple[Convention, ...]
    paper: dict[Score, float]
    departs: str
    errors: tuple[str, ...]

    def select_averages(self, convention: str) -> tuple[Convention, ...]:
        """Return the scores under our own convention and under another one."""
        return tuple(one for one in self.conventions if one.key in (OWN_CONVENTION, convention))


@dataclass(frozen=True)
class StudySummary:
    """A finished study.

    Attributes:
        study: What was asked.
        budget: What each run was given, in words.
        rows: In the order of the study.
        notes: What to keep in mind when reading the numbers.
        side_by_side: The same pictures as each run sees them, if asked for.
    """

    study: Study
    budget: str
    rows: tuple[StudyRow, ...]
    notes: tuple[str, ...]
    side_by_side: SideBySide | None

    @property
    def cost(self) -> Cost | None:
        """The first cost that was measured; all were in the same way."""
        return next((row.cost for row in self.rows if row.cost), None)

    def to_json(self) -> dict[str, Any]:
        """Return plain values for a JSON file."""
        values = asdict(replace(self, side_by_side=None))
        del values["side_by_side"]
        return {**values, "study": self.study.model_dump(mode="json")}


def summarize(
    study: Study,
    outcomes: Sequence[RunOutcome],
    *,
    cost: bool = True,
    pictures: int = 1,
    device: str = "auto",
    tell: Callable[[str], object] = lambda message: None,
) -> StudySummary:
    """Evaluate the finished runs, and put the rows together.

    Args:
        study: What was asked.
        outcomes: As `run_study` returned them.
        cost: Also measure what one picture costs on this machine.
        pictures: How many of the first run's best, median and worst pictures to predict with all.
        device: `auto`, `cpu`, `cuda`, …
        tell: Called with a line on what happens.

    Raises:
        AtrousError: No run of the study finished.
    """
    finished = [outcome for outcome in outcomes if not outcome.error]
    if not finished:
        raise AtrousError(
            f"No run of the study finished. The first: {outcomes[0].folder.name} "
            f"{outcomes[0].error}."
        )
    scores = {}
    for outcome in finished:
        tell(f"{outcome.folder.name}: evaluating")
        scores[outcome.folder] = evaluate(
            outcome.folder, views=Views(scales=study.scales), boundary=True, device=device
        )
    tell("comparing")
    first_seeds = [outcome for outcome in finished if outcome.seed == 0]
    # A run alone is compared with itself: that gives its interval.
    folders = [outcome.folder for outcome in first_seeds] or [finished[0].folder]
    comparison = compare(folders if len(folders) > 1 else folders * 2, cost=cost, device=device)
    by_name = dict(
        zip([outcome.run.name for outcome in first_seeds], comparison.runs, strict=False)
    )
    differences: dict[str, RunDifference] = dict(
        zip([outcome.run.name for outcome in first_seeds[1:]], comparison.differences, strict=False)
    )
    rows = []
    for run in study.runs:
        own = [outcome for outcome in outcomes if outcome.run.name == run.name]
        done = [scores[outcome.folder] for outcome in own if not outcome.error]
        result, difference = by_name.get(run.name), differences.get(run.name)
        rows.append(
            StudyRow(
                name=run.name,
                miou=result.miou if result else None,
                miou_by_seed=tuple(report.scores.miou for report in done),
                boundary_iou=done[0].boundary.boundary_iou if done and done[0].boundary else None,
                difference=difference.miou if difference else None,
                is_clear=difference.is_clear if difference else False,
                cost=result.cost if result else None,
                conventions=done[0].compute_conventions() if done else (),
                paper=run.paper,
                departs=run.departs,
                errors=tuple(f"seed {o.seed} {o.error}" for o in own if o.error),
            )
        )
    tell("drawing")
    return StudySummary(
        study,
        _describe_budget(study, finished[0].folder),
        tuple(rows),
        (*comparison.notes, METHOD),
        build_side_by_side(folders, num_pictures=pictures, device=device) if pictures else None,
    )


def _describe_budget(study: Study, folder: Path) -> str:
    recipe = load_recipe(RunFolder(folder).recipe)
    size = f"{recipe.data.size or recipe.data.crop} px"
    batch = recipe.train.batch_size * recipe.train.accumulate
    budget = f"{recipe.train.duration} of {batch} pictures a step at {size}, on {recipe.data.root}"
    scales = ", ".join(f"{scale:g}" for scale in study.scales)
    return budget if study.scales == (1.0,) else f"{budget}, scored at scale {scales}"
