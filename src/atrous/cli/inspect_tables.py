"""The tables of `atrous inspect`."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.markup import escape
from rich.table import Table

from atrous.cli.console import Console
from atrous.cli.output import build_table

if TYPE_CHECKING:
    from atrous.models import Segmenter
    from atrous.profile import AtrousConv, ModelPart, ModelProfile


def print_profile(profile: "ModelProfile") -> None:
    """Print a profile in 80 columns."""
    console = Console()
    size = "×".join(map(str, profile.size_hw))
    console.print(
        f"[bold]{escape(profile.model)}[/], {size} px: {profile.num_parameters:,} "
        f"parameters, {profile.gflops:.2f} GFLOPs per image\n",
        _build_parts_table(profile.parts),
        f"\nActivations of {profile.batch_size} × {size} px in float32: "
        f"{_format_mb(profile.saved_mb)} MB saved for the backward pass in training, peak of "
        f"{_format_mb(profile.inference_mb)} MB in inference. Field: side in pixels of the square "
        "that contains 95 % of the gradient energy of a cell.",
        sep="\n",
        highlight=False,
    )
    if profile.atrous_convs:
        console.print("", _build_convs_table(profile.atrous_convs), sep="\n", highlight=False)
    for text in profile.warnings:
        console.print(f"\n[bold yellow]Warning:[/] {escape(text)}", highlight=False)
    for text in profile.notes:
        console.print(f"\n[bold]Note:[/] {escape(text)}", highlight=False)


def print_untrained_taps(
    model: "Segmenter", train_hw: tuple[int, int], size_hw: tuple[int, int]
) -> None:
    """List the taps that images of one size reach and the training images do not."""
    from atrous.models.untrained_taps import list_untrained_taps

    still = {taps.name: taps.num_untrained for taps in list_untrained_taps(model, size_hw)}
    table = build_table("reached here, not in training", "rate", "taps", "weights")
    for taps in list_untrained_taps(model, train_hw):
        if num_reached := taps.num_untrained - still.get(taps.name, 0):
            weights = "zero" if taps.are_zero else "not zero"
            table.add_row(
                escape(taps.name), str(taps.rate), f"{num_reached} of {taps.num_taps}", weights
            )
    trained, size = ("×".join(map(str, pair)) for pair in (train_hw, size_hw))
    if table.row_count:
        text = f"Training images of {trained} px never reached these taps, but {size} px do:"
        Console().print(f"\n{text}", table, sep="\n", highlight=False)
    else:
        text = f"Training images of {trained} px reached all taps that {size} px reach."
        Console().print(f"\n{text}", highlight=False)


def _build_parts_table(parts: "Sequence[ModelPart]") -> Table:
    table = build_table("part", "map", "parameters", "GFLOPs", "saved MB", "field")
    for part in parts:
        table.add_row(
            "head (other)" if part.name == "head" else escape(part.name),
            "" if part.map_hw is None else "×".join(map(str, part.map_hw)),
            f"{part.num_parameters:,}",
            f"{part.gflops:.2f}",
            _format_mb(part.saved_mb),
            "" if part.receptive_field_px is None else str(part.receptive_field_px),
        )
    return table


def _build_convs_table(convs: "Sequence[AtrousConv]") -> Table:
    from atrous.profile.atrous_convs import group_convs, name_group

    table = build_table("atrous convolution", "rate", "map", "valid taps", "share", "idle weights")
    for group in group_convs(convs):
        conv = group[0]
        table.add_row(
            escape(name_group(group)),
            str(conv.rate),
            "×".join(map(str, conv.map_hw)),
            f"{conv.valid_taps:.2f} of {conv.num_taps}",
            f"{conv.share:.0%}",
            f"{sum(member.idle_parameters for member in group):,}",
        )
    return table


def _format_mb(megabytes: float) -> str:
    return f"{megabytes:,.1f}" if megabytes < 100 else f"{megabytes:,.0f}"
