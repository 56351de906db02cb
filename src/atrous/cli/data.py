"""`atrous data`."""

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from atrous.cli.console import Console
from atrous.cli.options import IgnoreIndex, OwnFormat
from atrous.cli.output import show_progress
from atrous.errors import ConfigError

app = typer.Typer(
    help="Create datasets: VOC2012, the sample dataset shapes, or shards of a dataset in use."
)


@app.command("shapes")
def run_shapes(
    folder: Annotated[Path, typer.Argument(help="Folder to write to.")],
    num_train: Annotated[int, typer.Option(min=1, help="Number of training images.")] = 600,
    num_val: Annotated[int, typer.Option(min=1, help="Number of validation images.")] = 80,
    size: Annotated[
        int, typer.Option(min=32, help="Height and width of the images in pixels.")
    ] = 128,
    seed: Annotated[int, typer.Option(help="Seed of the images.")] = 0,
) -> None:
    """Draw the sample dataset in VOC's layout. The same options give the same files."""
    from atrous.data.shapes import write_shapes

    write_shapes(folder, num_train=num_train, num_val=num_val, size_px=size, seed=seed)
    Console().print(f"{num_train} + {num_val} images in {escape(str(folder))}")


@app.command("voc2012")
def run_voc2012(
    out: Annotated[Path, typer.Argument(help="Folder in which VOCdevkit is created.")],
    voc_tar: Annotated[Path | None, typer.Option(help="Local VOCtrainval_11-May-2012.tar.")] = None,
    sbd_tar: Annotated[
        Path | None, typer.Option(help="Local benchmark.tgz of SBD; adds the split trainaug.")
    ] = None,
    download: Annotated[
        bool, typer.Option("--download", help="Download VOC2012 (needs a network).")
    ] = False,
    verify: Annotated[bool, typer.Option(help="Check the archives' published checksums.")] = True,
) -> None:
    """Create the VOC2012 devkit folder from local archives or by download."""
    from atrous.data.voc2012 import build_voc2012, download_voc2012

    if download == (voc_tar is not None):
        raise ConfigError("Give the source of VOC2012: either --voc-tar FILE or --download.")
    if download and sbd_tar is not None:
        raise ConfigError(
            "--sbd-tar requires a local archive: give --voc-tar instead of --download."
        )
    if voc_tar is None:
        download_voc2012(out)
    else:
        build_voc2012(out, voc_tar=voc_tar, sbd_tar=sbd_tar, verify=verify)
    Console().print(f"VOC2012 is in {escape(str(out))}")


@app.command("shard")
def run_shard(
    data: Annotated[str, typer.Argument(help="Dataset folder.")],
    folder: Annotated[Path, typer.Argument(help="New folder to write to.")],
    splits: Annotated[
        list[str] | None,
        typer.Option("--split", help="Split to write; repeat it. By default, all with masks."),
    ] = None,
    shard_mb: Annotated[int, typer.Option(min=1, help="Size of a shard in MB.")] = 256,
    data_format: OwnFormat = None,
    ignore_index: IgnoreIndex = None,
) -> None:
    """Write a dataset as tar shards, which other commands read from a folder or a URL.

    The files keep their bytes, so that training is the same. Upload the whole folder.
    """
    from atrous.data.write_shards import write_shards

    with show_progress("writing") as progress:
        positions = write_shards(
            data,
            folder,
            splits=splits or None,
            format=data_format or "auto",
            ignore_index=ignore_index,
            shard_bytes=shard_mb * 1_000_000,
            progress=progress,
        )
    console = Console()
    for split, written in positions.items():
        num_shards, num_bytes = written[-1].shard + 1, sum(position.size for position in written)
        console.print(
            f"{escape(split)}: {len(written):,} samples in {num_shards:,} "
            f"shard{'s' * (num_shards > 1)}, {num_bytes / 1e6:,.1f} MB"
        )
    console.print(f"The shards are in {escape(str(folder))}")
