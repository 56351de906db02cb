"""`atrous inspect`."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from atrous.cli.inspect_tables import print_profile, print_untrained_taps
from atrous.cli.options import parse_size
from atrous.cli.output import STDOUT, write_json
from atrous.errors import ConfigError, did_you_mean
from atrous.recipe import apply_overrides, load_recipe
from atrous.run import RunFolder

if TYPE_CHECKING:
    from atrous.models import Segmenter
    from atrous.profile import ModelProfile

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

    groups = group_convs(profile.atrous_convs)
    height, width = profile.size_hw
    save_taps_figure(
        path,
        [
            TapsPanel(
                title=name_group(group).removeprefix("backbone.").removeprefix("head."),
                rate=group[0].rate,
                map_hw=group[0].map_hw,
                valid_taps=group[0].valid_taps,
                kernel_size=round(group[0].num_taps ** 0.5),
            )
            for group in groups
        ],
        title=f"{profile.model}, images of {height}×{width}",
    )
