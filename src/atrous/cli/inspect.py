"""`atrous inspect`."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from atrous.cli.console import Console
from atrous.cli.options import parse_size
from atrous.cli.output import STDOUT, build_table, write_json
from atrous.errors import ConfigError, did_you_mean
from atrous.recipe import apply_overrides, load_recipe
from atrous.run import RunFolder

if TYPE_CHECKING:
    from atrous.models import Segmenter
    from atrous.profile import AtrousConv, ModelPart, ModelProfile

_DEFAULT_SIZE_PX = 256


def run_inspect(
    model: Annotated[
        str, typer.Argument(help="A name from `atrous models`, a run folder or a weights file.")
    ],
    *,
    size: Annotated[
        str | None,
        typer.Option(help="Image size in pixels: 256, or 256x512 (height first)."),
    ] = None,
    train_size: Annotated[
        str | None,
        typer.Option(help="Size of the training images, to list taps that training never reached."),
    ] = None,
    batch: Annotated[int, typer.Option(min=1, help="Images per batch, for the memory.")] = 1,
    num_classes: Annotated[int | None, typer.Option(help="Number of classes. Default: 21.")] = None,
    overrides: Annotated[
        list[str] | None, typer.Option("--set", help="Set a model option: output_stride=8.")
    ] = None,
    plot: Annotated[
        Path | None, typer.Option(help="Plot the taps on their feature maps: PNG, SVG or PDF.")
    ] = None,
    json_path: Annotated[
        Path | None,
        typer.Option("--json", help="Write the profile as JSON; - prints it to stdout."),
    ] = None,
) -> None:
    """Show the parameters, FLOPs, memory, receptive fields and valid taps of a model.

    Warns about atrous rates that exceed the feature map, and lists the taps that the training of
    a run never reached but images of --size do.
    """
    from atrous.profile import profile_model

    size_hw = None if size is None else parse_size(size)
    subject = open_model(model, num_classes, parse_options(overrides or []))
    card_hw = None if subject.card is None else subject.card.size_hw
    size_hw = size_hw or card_hw or (_DEFAULT_SIZE_PX, _DEFAULT_SIZE_PX)
    profile = profile_model(subject, size_hw=size_hw, batch_size=batch)
    train_hw = parse_size(train_size) if train_size else find_train_hw(Path(model))
    if plot is not None:
        save_plot(plot, profile)
    if json_path != STDOUT:
        print_profile(profile)
        if train_hw is not None:
            print_untrained_taps(subject, train_hw, size_hw)
    if json_path is not None:
        write_json(profile.to_json(), json_path)


def parse_options(overrides: Sequence[str]) -> dict[str, Any]:
    """Parse texts of the form `option=value` or `model.option=value`."""
    for text in overrides:
        if "=" not in text:
            raise ConfigError(f"--set takes option=value, such as output_stride=8, not '{text}'.")
    keys = [f"model.{text.removeprefix('model.')}" for text in overrides]
    return dict(apply_overrides({}, keys).get("model", {}))


def find_train_hw(run: Path) -> tuple[int, int] | None:
    """Return the size of the training images of a run; None for anything else."""
    recipe = RunFolder(run).recipe
    return load_recipe(recipe).data.train_hw if recipe.is_file() else None


def open_model(name: str, num_classes: int | None, options: dict[str, Any]) -> "Segmenter":
    """Build a variant by name, or load a run, with other options that keep its weights."""
    from atrous.models import build_model, load_model, model_names
    from atrous.models.ready import READY_MODELS
    from atrous.models.zoo import TIMM, rebuild_model

    if num_classes is not None:
        options = {**options, "num_classes": num_classes}
    if name in model_names() or f"_{TIMM}" in name:
        return build_model(name, **options)
    if not Path(name).exists() and name not in READY_MODELS:
        raise ConfigError(
            f"'{name}' is neither a model nor a run folder or weights file."
            f"{did_you_mean(name, [*model_names(), *READY_MODELS])} `atrous models` lists the "
            "models."
        )
    model = load_model(name)
    return rebuild_model(model, **options) if options else model


def save_plot(path: Path, profile: "ModelProfile") -> None:
    """Plot one panel per group of atrous convolutions."""
    from atrous.figures import TapsPanel, save_taps_figure
    from atrous.profile.atrous_convs import group_convs, name_group

    panels = [
        TapsPanel(
            title=name_group(group).removeprefix("backbone.").removeprefix("head."),
            rate=group[0].rate,
            map_hw=group[0].map_hw,
            valid_taps=group[0].valid_taps,
            kernel_size=round(group[0].num_taps ** 0.5),
        )
        for group in group_convs(profile.atrous_convs)
    ]
    height, width = profile.size_hw
    save_taps_figure(path, panels, title=f"{profile.model}, images of {height}×{width}")


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
    )
    if profile.atrous_convs:
        console.print("", _build_convs_table(profile.atrous_convs), sep="\n")
    for text in profile.warnings:
        console.print(f"\n[bold yellow]Warning:[/] {escape(text)}")
    for text in profile.notes:
        console.print(f"\n[bold]Note:[/] {escape(text)}")


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
        Console().print(f"\n{text}", table, sep="\n")
    else:
        text = f"Training images of {trained} px reached all taps that {size} px reach."
        Console().print(f"\n{text}")


def _build_parts_table(parts: Sequence["ModelPart"]) -> Table:
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


def _build_convs_table(convs: Sequence["AtrousConv"]) -> Table:
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
