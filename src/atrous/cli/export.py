"""`atrous export`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.markup import escape

from atrous.cli.console import Console
from atrous.cli.options import Data, DataFormat, IgnoreIndex, parse_size
from atrous.cli.output import build_table, show_progress

if TYPE_CHECKING:
    from atrous.export import ExportReport

Target = Literal["onnx", "onnx-int8", "openvino", "openvino-int8", "pt2"]


def run_export(
    run: Annotated[Path, typer.Argument(help="Run folder or weights file.")],
    *,
    to: Annotated[Target, typer.Option(help="Export target; pt2 is torch.export.")],
    out: Annotated[
        Path | None, typer.Option(help="Output file; by default, in the run's exports folder.")
    ] = None,
    uint8: Annotated[
        bool, typer.Option("--uint8", help="Include normalization: takes uint8 (batch, H, W, 3).")
    ] = False,
    argmax: Annotated[
        bool, typer.Option("--argmax", help="Include argmax: returns uint8 (batch, H, W).")
    ] = False,
    size: Annotated[
        str | None,
        typer.Option(help="Fixed image size: 513, or HEIGHTxWIDTH. By default, any size."),
    ] = None,
    data: Data = None,
    split: Annotated[
        str | None,
        typer.Option(help="Split to compare on; by default, the run's validation split."),
    ] = None,
    gate_images: Annotated[
        int | None, typer.Option(help="Number of images to compare on; by default, all.")
    ] = None,
    calibration_images: Annotated[
        int, typer.Option(help="Number of training images to calibrate int8 on.")
    ] = 100,
    ignore_index: IgnoreIndex = None,
    data_format: DataFormat = "auto",
) -> None:
    """Export a model to another runtime, and compare it with the original on real images."""
    size_hw = None if size is None else parse_size(size)

    from atrous.export import export_model

    with show_progress("exporting") as progress:
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
            progress=progress,
        )
    _print_report(report)


def _print_report(report: "ExportReport") -> None:
    from atrous.engines.exported_engine import list_export_files

    console = Console()
    table = build_table(
        "precision", "max logit difference", "pixel agreement", "mIoU", "original mIoU", "gate"
    )
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
    console.print(table)
    if report.restored:
        console.print("The most sensitive layers were reverted to float.")
    num_bytes = sum(file.stat().st_size for file in list_export_files(report.path))
    console.print(f"{escape(str(report.path))} ({num_bytes / 1e6:.1f} MB)")
