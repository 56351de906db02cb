"""`atrous check --model` and `--folds`."""

import csv
import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.markup import escape

from atrous.cli.console import Console
from atrous.cli.output import STDOUT, build_table, show_progress, write_json, write_text
from atrous.errors import ConfigError

if TYPE_CHECKING:
    from atrous.data import SegmentationDataset
    from atrous.evaluation.label_quality import LabelReport, Models
    from atrous.recipe import Recipe

Paths = tuple[Path | None, Path | None, Path | None]
"""HTML page, JSON and CSV file to write; None for those that are not wanted."""

_MAX_ROWS = 20


def rank_by_model(model: Path, data: str | None, options: dict[str, Any], paths: Paths) -> None:
    """Rank the labels of a split by a model, given `options` of `open_model_and_labels`."""
    from atrous.evaluation.label_quality import open_model_and_labels

    engine, dataset = open_model_and_labels(model, data, **options)
    _rank([(engine, dataset)], dataset, engine.card.name, paths)


def rank_by_folds(recipe: "Recipe", num_folds: int, out: Path | None, paths: Paths) -> None:
    """Rank the labels of the training split by models of its folds, which are trained first.

    The trainings are in `out`, by default in `DATA-folds` in the working folder.
    """
    from atrous.cli.display import TrainingDisplay
    from atrous.training.folds import train_folds

    if not recipe.data.root:
        raise ConfigError("No data is given: atrous check DATA --folds 5, or --recipe FILE.")
    out = out or Path(f"{Path(recipe.data.root).resolve().name}-folds")
    with TrainingDisplay(stderr=STDOUT in paths) as display:
        folds = train_folds(recipe, num_folds, out, listener=display)
    _rank(folds, folds.dataset, f"{num_folds} × {recipe.model.name}", paths)


def _rank(models: "Models", dataset: "SegmentationDataset", name: str, paths: Paths) -> None:
    """Rank the labels of a split, print the first regions and write the page and the lists."""
    from atrous.evaluation.label_quality import rank_labels

    html, json_path, csv_path = paths
    with show_progress("ranking labels") as progress:
        report = rank_labels(models, dataset, progress=progress)
    files = {
        name: path.relative_to(dataset.root).as_posix()
        for name, path in zip(dataset.names, dataset.image_paths, strict=True)
    }
    rows = [
        {"rank": rank, "file": files[row.image], **vars(row)}
        for rank, row in enumerate(report.regions, start=1)
    ]
    if json_path != STDOUT:
        _print(report)
    if json_path is not None:
        images = [{"file": files[row.image], **vars(row)} for row in report.images]
        numbers = {"num_regions": report.num_regions, "num_suspects": report.num_suspects}
        write_json({**numbers, "regions": rows, "images": images}, json_path)
    if csv_path is not None:
        write_text(_format_csv(rows), csv_path)
    if html is not None:
        from atrous.report.html import save_page
        from atrous.report.labels_page import render_labels_page

        with show_progress("drawing") as progress:
            page = render_labels_page(report, models, dataset, model=name, progress=progress)
        save_page(html, page)


def _print(report: "LabelReport") -> None:
    console = Console()
    table = build_table("image", "score", "label", "model", "x", "y")
    for row in report.regions[:_MAX_ROWS]:
        left, top, right, bottom = row.box
        names = escape(row.given), escape(row.suggested)
        places = f"{left}–{right}", f"{top}–{bottom}"
        table.add_row(escape(row.image), f"{row.score:.2f}", *names, *places)
    if report.regions:
        console.print(table)
    num_more = len(report.regions) - _MAX_ROWS
    if num_more > 0:
        console.print(f"{num_more:,} further regions are in --csv and --json.")
    console.print(f"\n[bold]{report.describe_verdict()}[/]")


def _format_csv(rows: list[dict[str, Any]]) -> str:
    text = io.StringIO()
    sides = ("left", "top", "right", "bottom")
    names = ("rank", "file", *sides, "given", "suggested", "score", "reason")
    table = csv.DictWriter(text, names, extrasaction="ignore", lineterminator="\n")
    table.writeheader()
    for row in rows:
        box = dict(zip(sides, row["box"], strict=True))
        table.writerow({**row, **box, "score": f"{row['score']:.4f}"})
    return text.getvalue()
