"""`atrous import`."""

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from atrous.cli.console import Console
from atrous.cli.output import show_progress


def run_import(
    source: Annotated[Path, typer.Argument(help="Folder or file that a labelling tool exported.")],
    out: Annotated[Path, typer.Argument(help="Folder to create.")],
    *,
    data_format: Annotated[
        str, typer.Option("--format", help="coco, labelme, cvat, yolo, … (docs/data.md), or auto.")
    ] = "auto",
    val: Annotated[
        float, typer.Option(help="Share of validation images, if the source has no such split.")
    ] = 0.2,
    group: Annotated[
        str | None,
        typer.Option(help="Regular expression of images that stay together."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the random split.")] = 0,
    copy: Annotated[bool, typer.Option("--copy", help="Copy images instead of linking.")] = False,
) -> None:
    """Convert labels of another tool to a dataset: masks are written, images are linked."""
    from atrous.formats import import_dataset

    with show_progress("importing") as progress:
        report = import_dataset(
            source,
            out,
            format=data_format,
            val=val,
            group=group,
            seed=seed,
            copy=copy,
            progress=progress,
        )
    console = Console()
    splits = ", ".join(f"{name} {count}" for name, count in report.num_images.items())
    state = "was imported before" if report.is_old else "imported"
    console.print(
        f"{report.format}: {splits} {state} into {escape(str(out))}. "
        f"{len(report.classes)} classes: {escape(', '.join(report.classes))}.",
        highlight=False,
    )
    for reason, count in report.skipped.items():
        if count:
            console.print(f"  [yellow]left out:[/] {count} {escape(reason)}", highlight=False)
    console.print(f"next  atrous check {escape(str(out))}", highlight=False)
