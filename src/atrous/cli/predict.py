"""`atrous predict`."""

from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import MofNCompleteColumn, Progress

from atrous.cli.evaluate import parse_views


def run_predict(
    run: Annotated[Path, typer.Argument(help="Run folder, or a weights file.")],
    paths: Annotated[list[Path], typer.Argument(help="Pictures, or folders of pictures.")],
    *,
    out: Annotated[Path, typer.Option(help="Folder for the masks and overlays.")],
    scales: Annotated[str, typer.Option(help="Sizes to average over: 0.75,1,1.25")] = "1",
    flip: Annotated[bool, typer.Option("--flip", help="Average with the mirror image.")] = False,
    window: Annotated[
        int | None, typer.Option(help="Slide a square window of this side, in pixels.")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    precision: Annotated[
        Literal["32", "bf16", "auto"], typer.Option(help="auto: bf16 where the device has it.")
    ] = "32",
    engine: Annotated[
        str, typer.Option(help="torch, an export such as openvino-int8, or auto: the fastest.")
    ] = "torch",
) -> None:
    """Segment pictures: STEM.png holds class indices, STEM_overlay.jpg is for looking at.

    A picture that cannot be read is reported and skipped, and the exit code is then 1.
    """
    views = parse_views(scales, flip, window)

    from atrous.inference import predict

    errors = Console(stderr=True)
    with Progress(*Progress.get_default_columns(), MofNCompleteColumn(), console=errors) as bar:
        task = bar.add_task("predicting", total=None)
        report = predict(
            run,
            paths,
            out,
            views=views,
            device=device,
            precision=precision,
            engine=engine,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
    for _, message in report.failed:
        errors.print(f"[yellow]Skipped:[/] {escape(message)}", highlight=False)
    Console().print(
        f"{len(report.written) // 2} pictures segmented into {escape(str(out))}"
        + (f", {len(report.failed)} skipped." if report.failed else "."),
        highlight=False,
    )
    raise typer.Exit(1 if report.failed else 0)
