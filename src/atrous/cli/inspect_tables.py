"""The tables of `atrous inspect`."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.markup import escape
from rich.table import Table

from atrous.cli.console import Console

if TYPE_CHECKING:
    from atrous.inspect import AtrousConv, Inspection, Part


def print_inspection(inspection: "Inspection") -> None:
    """Print everything, in 80 columns."""
    console = Console()
    size = "×".join(map(str, inspection.size_hw))
    console.print(
        f"[bold]{escape(inspection.model)}[/], {size} px: {inspection.num_parameters:,} "
        f"parameters, {inspection.gflops:.2f} GFLOPs per picture\n",
        _build_parts_table(inspection.parts),
        f"\nActivations of {inspection.batch_size} × {size} px in float32: "
        f"{_format_mb(inspection.training_mb)} MB kept for the backward pass in training, at most "
        f"{_format_mb(inspection.use_mb)} MB at a time in use. Field: pixels on a side that a cell "
        "sees through convolutions (+ through pooling: the whole picture); 95 %: the side that "
        "holds 95 % of its gradient's energy.",
        sep="\n",
        highlight=False,
    )
    if inspection.atrous_convs:
        console.print("", _build_convs_table(inspection.atrous_convs), sep="\n", highlight=False)
    for text in inspection.warnings:
        console.print(f"\n[bold yellow]Warning:[/] {escape(text)}", highlight=False)
    for text in inspection.notes:
        console.print(f"\n[bold]Note:[/] {escape(text)}", highlight=False)
    if inspection.fits:
        console.print("", _build_fits_table(inspection), sep="\n", highlight=False)


def name_group(group: "Sequence[AtrousConv]") -> str:
    """Name convolutions of one kind after the first of them."""
    name = group[0].name.removeprefix("backbone.").removeprefix("head.")
    return name if len(group) == 1 else f"{name} and {len(group) - 1} more"


def _build_parts_table(parts: "Sequence[Part]") -> Table:
    table = _build_table("part", "map", "parameters", "GFLOPs", "kept MB", "field", "95 %")
    for part in parts:
        table.add_row(
            "head itself" if part.name == "head" else escape(part.name),
            "" if part.map_hw is None else "×".join(map(str, part.map_hw)),
            f"{part.num_parameters:,}",
            f"{part.gflops:.2f}",
            _format_mb(part.kept_mb),
            _format_field(part),
            "" if part.measured_px is None else str(part.measured_px),
        )
    return table


def _build_convs_table(convs: "Sequence[AtrousConv]") -> Table:
    from atrous.inspect.atrous_convs import group_convs

    table = _build_table("atrous convolution", "rate", "map", "valid taps", "share", "idle weights")
    for group in group_convs(convs):
        conv = group[0]
        table.add_row(
            escape(conv.name if len(group) == 1 else f"{conv.name} and {len(group) - 1} more"),
            str(conv.rate),
            "×".join(map(str, conv.map_hw)),
            f"{conv.valid_taps:.2f} of {conv.num_taps}",
            f"{conv.share:.0%}",
            f"{sum(member.idle_parameters for member in group):,}",
        )
    return table


def _build_fits_table(inspection: "Inspection") -> Table:
    assert inspection.memory_mb is not None
    table = _build_table(f"training in {inspection.memory_mb / 1000:g} GB", "batch", "it takes MB")
    for fit in inspection.fits:
        precision = "float32" if fit.precision == "32" else fit.precision
        batch = str(fit.batch_size) if fit.batch_size else "none fits"
        table.add_row(f"{precision}, {fit.optimizer}", batch, _format_mb(fit.peak_mb))
    return table


def _build_table(first: str, *headings: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column(first, overflow="fold")
    for heading in headings:
        table.add_column(heading, justify="right", no_wrap=True)
    return table


def _format_field(part: "Part") -> str:
    if part.receptive_field_px is None:
        return "all" if part.whole_picture else ""
    return f"{part.receptive_field_px}{'+' if part.whole_picture else ''}"


def _format_mb(megabytes: float) -> str:
    return f"{megabytes:,.1f}" if megabytes < 100 else f"{megabytes:,.0f}"
