"""`atrous inspect`."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from atrous.cli.inspect_tables import name_group, print_inspection
from atrous.cli.output import STDOUT, write_json
from atrous.errors import ConfigError, did_you_mean
from atrous.recipe import apply_overrides

if TYPE_CHECKING:
    from atrous.inspect import Inspection
    from atrous.models import Segmenter

_DEFAULT_PX = 256


def run_inspect(
    model: Annotated[
        str, typer.Argument(help="A name from `atrous models`, a run folder or a weights file.")
    ],
    *,
    size: Annotated[
        str | None,
        typer.Option(help="Pictures in pixels: 256, or height first 256x512; else the run's."),
    ] = None,
    batch: Annotated[int, typer.Option(min=1, help="Pictures per batch, for the memory.")] = 1,
    num_classes: Annotated[int | None, typer.Option(help="Classes; by default 21.")] = None,
    overrides: Annotated[
        list[str] | None, typer.Option("--set", help="A model option: output_stride=8")
    ] = None,
    memory_for: Annotated[
        str | None, typer.Option(help="Find the batch that trains in this memory: 8GB")
    ] = None,
    plot: Annotated[
        Path | None, typer.Option(help="Draw the taps on their maps into this PNG, SVG or PDF.")
    ] = None,
    json_path: Annotated[
        Path | None, typer.Option("--json", help="Write everything here; - prints nothing else.")
    ] = None,
) -> None:
    """Show what a model takes and sees: weights, operations, memory, receptive field, taps.

    Warns where the rate of an atrous convolution reaches past its feature map.
    """
    from atrous.inspect import inspect_model, parse_memory

    memory_bytes = None if memory_for is None else parse_memory(memory_for)
    size_hw = None if size is None else parse_size(size)
    subject = open_model(model, num_classes, parse_options(overrides or []))
    card_hw = None if subject.card is None else subject.card.size_hw
    inspection = inspect_model(
        subject,
        size_hw=size_hw or card_hw or (_DEFAULT_PX, _DEFAULT_PX),
        batch_size=batch,
        memory_bytes=memory_bytes,
    )
    if plot is not None:
        save_plot(plot, inspection)
    if json_path != STDOUT:
        print_inspection(inspection)
    if json_path is not None:
        write_json(inspection.to_json(), json_path)


def parse_size(text: str) -> tuple[int, int]:
    """Read a size in pixels: one side, or height and width."""
    found = re.fullmatch(r"(\d+)(?:[x×](\d+))?", text.strip())
    if found is None:
        raise ConfigError(
            f"--size takes pixels: 256, or height and width as 256x512, not '{text}'."
        )
    height = int(found[1])
    return height, int(found[2] or height)


def parse_options(overrides: Sequence[str]) -> dict[str, Any]:
    """Read `option=value` texts, also written as `model.option=value`."""
    for text in overrides:
        if "=" not in text:
            raise ConfigError(f"--set takes option=value, such as output_stride=8, not '{text}'.")
    keys = [f"model.{text.removeprefix('model.')}" for text in overrides]
    return dict(apply_overrides({}, keys).get("model", {}))


def open_model(name: str, num_classes: int | None, options: dict[str, Any]) -> "Segmenter":
    """Build a variant by name, or load a run with other options that keep its weights."""
    from atrous.models import build_model, load_model, model_names
    from atrous.models.zoo import rebuild_model

    if num_classes is not None:
        options = {**options, "num_classes": num_classes}
    if name in model_names():
        return build_model(name, **options)
    if not Path(name).exists():
        raise ConfigError(
            f"'{name}' is neither a model nor a run folder or weights file."
            f"{did_you_mean(name, model_names())} `atrous models` lists the models."
        )
    model = load_model(name)
    return rebuild_model(model, **options) if options else model


def save_plot(path: Path, inspection: "Inspection") -> None:
    """Draw a panel for each kind of atrous convolution."""
    from atrous.figures import TapsPanel, save_taps_figure
    from atrous.inspect.atrous_convs import group_convs

    groups = group_convs(inspection.atrous_convs)
    height, width = inspection.size_hw
    save_taps_figure(
        path,
        [
            TapsPanel(
                title=name_group(group),
                rate=group[0].rate,
                map_hw=group[0].map_hw,
                valid_taps=group[0].valid_taps,
                kernel_size=round(group[0].num_taps ** 0.5),
            )
            for group in groups
        ],
        title=f"{inspection.model}, pictures of {height}×{width}",
    )
