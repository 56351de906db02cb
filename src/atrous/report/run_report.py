"""Report of one or several runs: conditions, scores, and failures."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from atrous.errors import AtrousError, ConfigError
from atrous.evaluation.evaluator import Progress
from atrous.evaluation.run_reader import LoadedRun, load_run
from atrous.report import run_overview
from atrous.report.gallery import Gallery, build_gallery, check_num_images, choose_images
from atrous.report.html import hide_folders, render_page, save_page
from atrous.report.ledger import build_ledger, find_data
from atrous.report.run_figures import build_run_figures, save_run_figures


def save_run_report(
    runs: Sequence[Path | str],
    *,
    out: Path | str | None = None,
    figures: Path | str | None = None,
    num_images: int = 3,
    split: str | None = None,
    device: str = "auto",
    progress: Progress | None = None,
) -> Path:
    """Save a report of one or several runs as one HTML file for offline use.

    A finished run must have been evaluated; a run in training is reported up to its last step. If
    images cannot be predicted, because the dataset or weights are missing, the page says why.

    Args:
        out: By default `report.html`, in the run folder for one run, in the current folder for
            several.
        figures: Folder for all figures as PNG, SVG and PDF, with a subfolder per run for several.
        num_images: Number of best, of median and of worst images.
        split: Split of the evaluation to show; by default, the run's validation split.

    Raises:
        ConfigError: A folder is not a run, a finished run was not evaluated, or an option is
            invalid. Nothing is written in this case.
        DataError: A file of a run is damaged.
        AtrousError: A file cannot be written.
    """
    paths = [Path(path) for path in runs]
    if not paths:
        raise ConfigError("There is no run to report on: give one or more run folders.")
    check_num_images(num_images)
    loaded = [load_run(path, split=split) for path in paths]
    if out is None:
        out = paths[0] / "report.html" if len(paths) == 1 else Path("report.html")
    num_on_page = 3 * num_images * len(loaded)
    sections = []
    for index, run in enumerate(loaded, start=1):
        gallery, error = _try_gallery(run, num_images, num_on_page, device, progress)
        sections.append(_build_section(f"run{index}", run, gallery, error))
    names = _number_names(loaded)
    fingerprints = {run.scores.get("data_fingerprint") for run in loaded if run.scores}
    html = render_page(
        "run.html", sections=sections, names=names, num_fingerprints=len(fingerprints)
    )
    if figures is not None:
        for section, name in zip(sections, names, strict=True):
            folder = Path(figures) if len(sections) == 1 else Path(figures) / name
            save_run_figures(section["figures"], folder)
    save_page(Path(out), html)
    return Path(out)


def _build_section(key: str, run: LoadedRun, gallery: Gallery | None, error: str) -> dict[str, Any]:
    """Return the variables of a run's section, whose ids begin with `key`."""
    rows = run_overview.sort_classes(run.scores)
    path = run.folder.path
    paths = (run.scores.get("data", ""), run.recipe.data.root, path, path.resolve())
    class_names = [row["name"] for row in rows]
    return {
        "key": key,
        "run": run,
        "rows": rows,
        "recipe_text": hide_folders(run.folder.recipe.read_text(encoding="utf-8").strip()),
        "command": f"atrous evaluate {run.name}",
        "status": run_overview.describe_status(run),
        "headline": run_overview.list_headline(run),
        "notes": run_overview.list_notes(run),
        "facts": run_overview.list_facts(run),
        "figures": build_run_figures(run),
        "confusions": run_overview.list_confusions(run.scores),
        "shares": run_overview.compute_shares(run.scores),
        "gallery": gallery,
        "gallery_error": hide_folders(error, *paths),
        "ledger": build_ledger(run.recipe, run.plan, run.scores, class_names) if run.scores else [],
        "data_name": find_data(class_names),
    }


def _try_gallery(
    run: LoadedRun, num_images: int, num_on_page: int, device: str, progress: Progress | None
) -> tuple[Gallery | None, str]:
    if not run.scores or not num_images:
        return None, ""
    try:
        chosen = choose_images(run, num_images)
        if not chosen:
            return None, "No image has a labelled pixel."
        gallery = build_gallery(
            [run], chosen, num_on_page=num_on_page, device=device, progress=progress
        )
        return gallery, ""
    except ConfigError:  # an invalid option
        raise
    except AtrousError as error:
        return None, str(error)


def _number_names(runs: Sequence[LoadedRun]) -> list[str]:
    names = [run.name for run in runs]
    return [name if names.count(name) == 1 else f"{name}-{i}" for i, name in enumerate(names, 1)]
