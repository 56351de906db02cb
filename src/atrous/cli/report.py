"""`atrous report`."""

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from atrous.cli.console import Console
from atrous.cli.options import Device
from atrous.cli.output import show_progress


def run_report(
    runs: Annotated[list[Path], typer.Argument(help="Run folders.")],
    *,
    out: Annotated[
        Path | None,
        typer.Option(
            help="File to write; by default report.html in the run folder, or here for several."
        ),
    ] = None,
    figures: Annotated[
        Path | None, typer.Option(help="Also save all figures in this folder as PNG, SVG and PDF.")
    ] = None,
    num_images: Annotated[
        int, typer.Option(help="Number of best, of median and of worst images.")
    ] = 3,
    split: Annotated[
        str | None, typer.Option(help="Evaluated split; by default, the run's validation split.")
    ] = None,
    device: Device = "auto",
) -> None:
    """Write a report of runs as one HTML file: conditions, scores and failures.

    Evaluate the runs first. The file can be opened offline.
    """
    from atrous.report import save_run_report

    with show_progress("predicting images") as progress:
        path = save_run_report(
            runs,
            out=out,
            figures=figures,
            num_images=num_images,
            split=split,
            device=device,
            progress=progress,
        )
    size_mb = path.stat().st_size / 1e6
    console = Console(soft_wrap=True)
    console.print(f"{escape(str(path))} ({size_mb:.1f} MB)")
    if figures is not None:
        console.print(f"Figures in {escape(str(figures))}.")
