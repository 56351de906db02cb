"""One page about one run or several: what was run, how well it does, and where it fails."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from atrous.errors import AtrousError, ConfigError
from atrous.report.facts import (
    Confusion,
    compute_shares,
    describe_status,
    list_confusions,
    list_facts,
    list_headline,
    list_notes,
)
from atrous.report.ledger import LedgerEntry, build_ledger, find_data
from atrous.report.loaded_run import LoadedRun, load_run
from atrous.report.page import render_page, save_page
from atrous.report.pictures import Gallery, build_gallery
from atrous.report.run_figures import (
    NamedFigure,
    build_run_figures,
    get_risk_coverage,
    save_run_figures,
)

Progress = Callable[[int, int], object]

MOST_PICTURES = 20


@dataclass(frozen=True)
class RunSection:
    """What the page shows of one run.

    Attributes:
        key: Makes ids on the page unique.
        gallery: Pictures, or None; then `gallery_lack` says why.
        shares: The confusion matrix as shares of the true classes, or None.
        data_name: Name of the data set where the ledger knows it.
    """

    key: str
    run: LoadedRun
    command: str
    status: str
    headline: list[tuple[str, str]]
    notes: list[str]
    facts: list[tuple[str, str]]
    figures: dict[str, NamedFigure]
    confusions: list[Confusion]
    shares: Any
    risk_coverage: list[dict[str, Any]]
    gallery: Gallery | None
    gallery_lack: str
    ledger: list[LedgerEntry]
    data_name: str | None


def save_run_report(
    runs: Sequence[Path | str],
    *,
    out: Path | str | None = None,
    figures: Path | str | None = None,
    pictures: int = 3,
    split: str | None = None,
    device: str = "auto",
    progress: Progress | None = None,
) -> Path:
    """Write one HTML file about runs; it holds everything it shows and opens offline.

    A finished run must have been evaluated. Of a run that is still in training the page shows what
    there is. Where pictures cannot be shown, because data or weights are gone, it says why.

    Args:
        runs: Run folders.
        out: File to write; unset, `report.html` in the run folder, or of several runs here.
        figures: Folder for each figure as PNG, SVG and PDF; of several runs with a folder each.
        pictures: How many of the best, of the median and of the worst pictures.
        split: Whose evaluation to show; unset, the run's validation split.
        device: What the pictures are predicted on: `auto`, `cpu`, `cuda`, …
        progress: Called after each predicted picture with the number done and of all of its run.

    Returns:
        The file.

    Raises:
        ConfigError: A folder is no run, a finished run was not evaluated, or an option cannot be
            used. Nothing is written then.
        AtrousError: A file cannot be written.
    """
    paths = [Path(path) for path in runs]
    if not paths:
        raise ConfigError("There is no run to report on: give one run folder or several.")
    if not 0 <= pictures <= MOST_PICTURES:
        raise ConfigError(f"--pictures takes a number from 0 to {MOST_PICTURES}, not {pictures}.")
    loaded = [load_run(path, split=split) for path in paths]
    if out is None:
        out = paths[0] / "report.html" if len(paths) == 1 else Path("report.html")
    num_shown = max(1, 3 * pictures * len(loaded))
    sections = []
    for index, run in enumerate(loaded, start=1):
        gallery, lack = _try_gallery(run, pictures, num_shown, device, progress)
        sections.append(_build_section(f"run{index}", run, gallery, lack))
    scored = {run.scores.get("data_fingerprint") for run in loaded if run.scores}
    html = render_page(
        "run.html", sections=sections, names=_name_apart(loaded), fingerprints=len(scored)
    )
    if figures is not None:
        for section, name in zip(sections, _name_apart(loaded), strict=True):
            folder = Path(figures) if len(sections) == 1 else Path(figures) / name
            save_run_figures(section.figures, folder)
    save_page(Path(out), html)
    return Path(out)


def _build_section(key: str, run: LoadedRun, gallery: Gallery | None, lack: str) -> RunSection:
    class_names = [row["name"] for row in run.scores.get("per_class", [])]
    return RunSection(
        key=key,
        run=run,
        command=f"atrous evaluate {run.folder.path}",
        status=describe_status(run),
        headline=list_headline(run),
        notes=list_notes(run),
        facts=list_facts(run),
        figures=build_run_figures(run),
        confusions=list_confusions(run.scores) if run.scores else [],
        shares=compute_shares(run.scores),
        risk_coverage=get_risk_coverage(run.scores),
        gallery=gallery,
        gallery_lack=lack,
        ledger=build_ledger(run.recipe, run.plan, run.scores, class_names) if run.scores else [],
        data_name=find_data(class_names),
    )


def _try_gallery(
    run: LoadedRun, pictures: int, num_shown: int, device: str, progress: Progress | None
) -> tuple[Gallery | None, str]:
    if not run.scores or not pictures:
        return None, ""
    try:
        gallery = build_gallery(
            run, num_pictures=pictures, num_shown=num_shown, device=device, progress=progress
        )
    except ConfigError:  # of an option, not of what is there
        raise
    except AtrousError as error:
        return None, str(error)
    return (gallery, "") if gallery.groups else (None, "No picture has a labelled pixel.")


def _name_apart(runs: Sequence[LoadedRun]) -> list[str]:
    """Return the runs' names, numbered where two are the same."""
    names = [run.name for run in runs]
    return [
        name if names.count(name) == 1 else f"{name}-{index}"
        for index, name in enumerate(names, start=1)
    ]
