"""Options that several commands share."""

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from atrous.errors import ConfigError
from atrous.recipe import Recipe, apply_overrides, build_recipe, flatten_values, load_toml, set_key

if TYPE_CHECKING:
    from atrous.engines import TTA

Data = Annotated[str | None, typer.Option(help="Dataset folder or URL; by default, the run's.")]
DataFormat = Annotated[str, typer.Option("--format", help="Dataset format: auto, voc or pairs.")]
OwnFormat = Annotated[
    str | None, typer.Option("--format", help="Dataset format: voc or pairs; detected by default.")
]
Device = Annotated[str, typer.Option(help="Device: auto, cpu, cuda or cuda:N.")]
EngineName = Annotated[
    str, typer.Option(help="Engine: torch, an export such as openvino-int8, or auto (fastest).")
]
Flip = Annotated[
    bool, typer.Option("--flip", help="Also average over horizontally flipped images.")
]
IgnoreIndex = Annotated[int | None, typer.Option(help="Mask value of ignored pixels.")]
TrainSplit = Annotated[str | None, typer.Option(help="Split to train on.")]
ValSplit = Annotated[str | None, typer.Option(help="Split to validate on.")]
Crop = Annotated[int | None, typer.Option(help="Height and width of random crops in pixels.")]
RecipeFile = Annotated[
    Path | None, typer.Option("--recipe", help="TOML file; options override it.")
]
Precision = Annotated[
    Literal["32", "bf16", "auto"],
    typer.Option(help="Precision; auto is bf16 where the device supports it."),
]
Samples = Annotated[
    int, typer.Option(help="Number of predictions with dropout to average (Bayesian SegNet).")
]
Scales = Annotated[str, typer.Option(help="Scales of test-time augmentation: 0.75,1,1.25")]
Trust = Annotated[bool, typer.Option("--trust", help="Open .pt2 exports, which can run any code.")]
Workers = Annotated[
    int | None,
    typer.Option(help="Number of processes that read images; by default, as suits the device."),
]


def choose_recipe(
    file: Path | None,
    options: Mapping[str, Any],
    overrides: Sequence[str] = (),
    *,
    suggest: Callable[[dict[str, Any]], dict[str, Any]],
) -> Recipe:
    """Return the recipe that a command works by.

    Args:
        file: Its TOML file, if there is one.
        options: Values of the command's options by recipe key, such as `data.crop`; None if an
            option is not given. They override those of the file.
        overrides: Texts of `--set`, which override the options.
        suggest: Called without a file: returns the values of a recipe that suits the data, from
            the given values by key.
    """
    given = {key: value for key, value in options.items() if value is not None}
    values: Mapping[str, Any] = {}
    if file is not None:
        values = load_toml(file)
    elif (chosen := given | flatten_values(apply_overrides({}, overrides))).get("data.root"):
        values = suggest(chosen)
        if chosen.get("data.size"):
            values = {**values, "data": {}}
    for key, other in (("data.size", "data.crop"), ("data.crop", "data.size")):
        if key in given and other not in given:
            values = set_key(values, other, None)
    for key, value in given.items():
        values = set_key(values, key, value)
    return build_recipe(apply_overrides(values, overrides))


def parse_size(text: str) -> tuple[int, int]:
    """Parse an image size in pixels: one side, or height and width.

    Raises:
        ConfigError: The text is neither.
    """
    found = re.fullmatch(r"(\d{1,6})(?:[x×](\d{1,6}))?", text.strip(), flags=re.ASCII)
    if found is None:
        raise ConfigError(
            f"--size takes pixels, such as 256, or HEIGHTxWIDTH, such as 256x512; got '{text}'."
        )
    height = int(found[1])
    return height, int(found[2] or height)


def parse_tta(
    scales: str, flip: bool, window: int | None, samples: int, overlap: float = 0.25
) -> "TTA":
    """Parse the options of test-time augmentation and sliding windows."""
    from atrous.engines import TTA

    try:
        factors = tuple(float(scale) for scale in scales.split(","))
    except ValueError:
        raise ConfigError(
            f"--scales takes numbers separated by commas, such as 0.75,1,1.25, not '{scales}'."
        ) from None
    return TTA(scales=factors, flip=flip, window_px=window, overlap=overlap, samples=samples)
