"""`atrous calibrate`."""

from pathlib import Path
from typing import Annotated

import typer

from atrous.cli.console import Console
from atrous.cli.options import Data, DataFormat, Device, IgnoreIndex, Precision, Workers
from atrous.cli.output import show_progress


def run_calibrate(
    run: Annotated[Path, typer.Argument(help="Run folder or weights file.")],
    *,
    split: Annotated[
        str, typer.Option(help="Split to fit on; not the one to report calibration on.")
    ],
    data: Data = None,
    ignore_index: IgnoreIndex = None,
    data_format: DataFormat = "auto",
    device: Device = "auto",
    precision: Precision = "32",
    workers: Workers = None,
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
            workers="auto" if workers is None else workers,
            progress=progress,
        )
    Console().print(f"Temperature {temperature:.3f}, fitted on {split!r}.")
