"""`atrous data`."""

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from atrous.cli.console import Console
from atrous.errors import ConfigError

app = typer.Typer(help="Make data sets: VOC2012 from its archives, or the shapes sample set.")


@app.command("shapes")
def run_shapes(
    folder: Annotated[Path, typer.Argument(help="Where to write the set.")],
    num_train: Annotated[int, typer.Option(min=1, help="Images to train on.")] = 600,
    num_val: Annotated[int, typer.Option(min=1, help="Images to validate on.")] = 80,
    size: Annotated[int, typer.Option(min=32, help="Height and width in pixels.")] = 128,
    seed: Annotated[int, typer.Option(help="Of the drawing.")] = 0,
) -> None:
    """Draw the embedded sample set, in VOC's layout; the same numbers give the same files."""
    from atrous.data.shapes import write_shapes

    write_shapes(folder, num_train=num_train, num_val=num_val, size_px=size, seed=seed)
    Console().print(f"{num_train} + {num_val} images in {escape(str(folder))}", highlight=False)


@app.command("voc2012")
def run_voc2012(
    out: Annotated[Path, typer.Argument(help="Where VOCdevkit is made.")],
    voc_tar: Annotated[
        Path | None, typer.Option(help="VOCtrainval_11-May-2012.tar, already here.")
    ] = None,
    sbd_tar: Annotated[
        Path | None, typer.Option(help="SBD's benchmark.tgz; adds the split trainaug.")
    ] = None,
    download: Annotated[
        bool, typer.Option("--download", help="Fetch VOC2012 from its home (needs a network).")
    ] = False,
    verify: Annotated[bool, typer.Option(help="Check the archives' published checksums.")] = True,
) -> None:
    """Make the VOC2012 devkit folder from local archives, or download it."""
    from atrous.data.voc2012 import build_voc2012, download_voc2012

    if download == (voc_tar is not None):
        raise ConfigError("Say where VOC2012 comes from: --voc-tar FILE, or --download.")
    if download and sbd_tar is not None:
        raise ConfigError("SBD is merged into local archives only: give --voc-tar, not --download.")
    if voc_tar is None:
        download_voc2012(out)
    else:
        build_voc2012(out, voc_tar=voc_tar, sbd_tar=sbd_tar, verify=verify)
    Console().print(f"VOC2012 is in {escape(str(out))}", highlight=False)
