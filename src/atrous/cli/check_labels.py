"""`atrous check --model`."""

import csv
import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.markup import escape

from atrous.cli.console import Console
from atrous.cli.output import STDOUT, build_table, show_progress, write_json, write_text

if TYPE_CHECKING:
    from atrous.evaluation.label_quality import LabelReport

_MAX_ROWS = 20


def print_ranking(
    model: Path, data: str | None, options: dict[str, Any], paths: tuple[Path | None, ...]
) -> None:
    """Rank the labels of a split, print the first regions and write the page and the lists.

    Args:
        model: Run folder or weights file.
        data: Folder of the dataset; None for that of the run.
        options: Other arguments of `open_model_and_labels`.
        paths: HTML page, JSON and CSV file; None for those that are not wanted.
    """
    from atrous.evaluation.label_quality import open_model_and_labels, rank_labels

    html, json_path, csv_path = paths
    engine, dataset = open_model_and_labels(model, data, **options)
    with show_progress("ranking labels") as progress:
        report = rank_labels(engine, dataset, progress=progress)
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
            page = render_labels_page(report, engine, dataset, progress=progress)
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
        console.print(table, highlight=False)
    num_more = len(report.regions) - _MAX_ROWS
    if num_more > 0:
        console.print(f"{num_more:,} further regions are in --csv and --json.", highlight=False)
    console.print(f"\n[bold]{report.describe_verdict()}[/]", highlight=False)


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
