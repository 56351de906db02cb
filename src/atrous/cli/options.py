"""Options that several commands share."""

from typing import Annotated, Literal

import typer

Data = Annotated[str | None, typer.Option(help="Dataset folder; by default, that of the run.")]
DataFormat = Annotated[str, typer.Option("--format", help="Dataset format: auto, voc or pairs.")]
Device = Annotated[str, typer.Option(help="Device: auto, cpu, cuda or cuda:N.")]
IgnoreIndex = Annotated[int | None, typer.Option(help="Mask value of ignored pixels.")]
Precision = Annotated[
    Literal["32", "bf16", "auto"],
    typer.Option(help="Precision; auto is bf16 where the device supports it."),
]
Workers = Annotated[int, typer.Option(help="Number of processes that read images.")]
