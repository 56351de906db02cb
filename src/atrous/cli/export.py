"""`atrous export`."""

from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.markup import escape
from rich.progress import Progress
from rich.table import Table

from atrous.cli.console import Console
from atrous.cli.inspect import parse_size

Target = Literal["onnx", "onnx-int8", "openvino", "openvino-int8", "pt2"]


def run_export(
    run: Annotated[Path, typer.Argument(help="Run folder, or a weights file.")],
    *,
    to: Annotated[Target, typer.Option(help="What to write; pt2 is torch.export.")],
    out: Annotated[
        Path | None, typer.Option(help="File to write; by default, in the run's folder exports.")
    ] = None,
    uint8: Annotated[
        bool, typer.Option("--uint8", help="Normalisation inside: takes uint8 (batch, H, W, 3).")
    ] = False,
    argmax: Annotated[
        bool, typer.Option("--argmax", help="Comparison inside: gives uint8 (batch, H, W).")
    ] = False,
    size: Annotated[
        str | None,
        typer.Option(help="Only this size: 513, or HEIGHTxWIDTH. Else any."),
    ] = None,
    data: Annotated[
        str | None, typer.Option(help="Data to check and calibrate on; by default, the run's.")
    ] = None,
    split: Annotated[
        str | None, typer.Option(help="Split to check on. By default, the run's; else val.")
    ] = None,
    gate_images: Annotated[
        int | None, typer.Option(help="Check on so many images of the split; by default, all.")
    ] = None,
    calibration_images: Annotated[
        int, typer.Option(help="Training images that int8 takes its ranges from.")
    ] = 100,
    ignore_index: Annotated[int | None, typer.Option(help="Mask value of no class.")] = None,
    data_format: Annotated[str, typer.Option("--format", help="auto, voc or pairs.")] = "auto",
) -> None:
    """Write a model for another runtime, and check it against the original on real images."""
    size_hw = None if size is None else parse_size(size)

    from atrous.export import export_model

    with Progress(transient=True, console=Console(stderr=True)) as progress:
        task = progress.add_task("tracing", total=None)

        def show(what: str, done: int, total: int) -> None:
            progress.update(task, description=what, completed=done, total=total or None)

        report = export_model(
            run,
            to,
            out,
            data=data,
            split=split,
            format=data_format,
            ignore_index=ignore_index,
            uint8_input=uint8,
            mask_output=argmax,
            size_hw=size_hw,
            num_gate_images=gate_images,
            num_calibration_images=calibration_images,
            progress=show,
        )
    console = Console()
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("precision")
    headings = ("largest logit difference", "pixels that agree", "mIoU", "of the original", "gate")
    for heading in headings:
        table.add_column(heading, justify="right")
    for gate in report.gates.values():
        difference = gate.max_logit_difference
        table.add_row(
            gate.precision,
            "–" if difference is None else f"{difference:.2g}",
            f"{gate.pixel_agreement:.4%}",
            f"{gate.miou_exported:.4f}",
            f"{gate.miou_original:.4f}",
            "[green]passed[/]" if gate.passed else f"[red]failed[/]: {gate.tolerance}",
        )
    console.print(table, highlight=False)
    if report.restored:
        console.print("The most sensitive layers were put back to float.", highlight=False)
    megabytes = report.path.stat().st_size / 1e6
    if report.path.suffix == ".xml":
        megabytes += report.path.with_suffix(".bin").stat().st_size / 1e6
    console.print(f"{escape(str(report.path))} ({megabytes:.1f} MB)", highlight=False)
