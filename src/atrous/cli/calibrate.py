"""`atrous calibrate`."""

from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console

from atrous.cli.output import show_progress


def run_calibrate(
    run: Annotated[Path, typer.Argument(help="Run folder or weights file.")],
    *,
    split: Annotated[
        str, typer.Option(help="Split to fit on; not the one to report calibration on.")
    ],
    data: Annotated[
        str | None, typer.Option(help="Dataset folder; by default, that of the run.")
    ] = None,
    ignore_index: Annotated[int | None, typer.Option(help="Mask value of ignored pixels.")] = None,
    data_format: Annotated[
        str, typer.Option("--format", help="Dataset format: auto, voc or pairs.")
    ] = "auto",
    device: Annotated[str, typer.Option(help="Device: auto, cpu, cuda or cuda:N.")] = "auto",
    precision: Annotated[
        Literal["32", "bf16", "auto"],
        typer.Option(help="Precision; auto is bf16 where the device supports it."),
    ] = "32",
    workers: Annotated[int, typer.Option(help="Number of processes that read images.")] = 1,
) -> None:
    """Fit the temperature of a model's confidence on a split and write it to the weights file.

    Masks and scores do not change, only confidence maps and calibration errors.
    """
    from atrous.evaluation import calibrate

    with show_progress("calibrating") as progress:
        temperature = calibrate(
            run,
            data,
            split=split,
            format=data_format,
            ignore_index=ignore_index,
            device=device,
            precision=precision,
            workers=workers,
            progress=progress,
        )
    Console().print(f"Temperature {temperature:.3f}, fitted on {split!r}.", highlight=False)
