"""`atrous report`."""

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.progress import Progress

from atrous.cli.console import Console


def run_report(
    runs: Annotated[list[Path], typer.Argument(help="Run folders.")],
    *,
    out: Annotated[
        Path | None,
        typer.Option(help="File to write; by default report.html in the run, of several here."),
    ] = None,
    figures: Annotated[
        Path | None, typer.Option(help="Also write each figure here as PNG, SVG and PDF.")
    ] = None,
    pictures: Annotated[
        int, typer.Option(help="How many of the best, the median and the worst pictures.")
    ] = 3,
    split: Annotated[
        str | None, typer.Option(help="Whose evaluation; by default, the run's validation split.")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
) -> None:
    """Write one HTML file about runs: what was run, how well it does, and where it fails.

    Evaluate the runs first. The file holds everything it shows and opens offline.
    """
    from atrous.report import save_run_report

    with Progress(transient=True, console=Console(stderr=True)) as progress:
        task = progress.add_task("predicting pictures", total=None)
        path = save_run_report(
            runs,
            out=out,
            figures=figures,
            pictures=pictures,
            split=split,
            device=device,
            progress=lambda done, total: progress.update(task, completed=done, total=total),
        )
    size_mb = path.stat().st_size / 1e6
    console = Console(soft_wrap=True)
    console.print(f"{escape(str(path))} ({size_mb:.1f} MB)", highlight=False)
    if figures is not None:
        console.print(f"Figures in {escape(str(figures))}.", highlight=False)
