"""Options that several commands share."""

import re
from typing import Annotated, Literal

import typer

from atrous.errors import ConfigError

Data = Annotated[str | None, typer.Option(help="Dataset folder; by default, that of the run.")]
DataFormat = Annotated[str, typer.Option("--format", help="Dataset format: auto, voc or pairs.")]
Device = Annotated[str, typer.Option(help="Device: auto, cpu, cuda or cuda:N.")]
IgnoreIndex = Annotated[int | None, typer.Option(help="Mask value of ignored pixels.")]
Precision = Annotated[
    Literal["32", "bf16", "auto"],
    typer.Option(help="Precision; auto is bf16 where the device supports it."),
]
Workers = Annotated[int, typer.Option(help="Number of processes that read images.")]


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
