"""Sizes of training images that suit a dataset."""

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from statistics import median

from atrous.data.layouts import find_all_files, find_layout, read_given_bands
from atrous.errors import DataError
from atrous.images.arrays import open_array
from atrous.images.image_file import read_image_size
from atrous.images.shard_file import File
from atrous.images.tiff import is_georeferenced

_CROP_PX, _MAX_LONG_SIDE_PX, _NUM_MEASURED = 320, 512, 200


def suggest_sizes(
    root: Path | str, train_split: str = "train", *, format: str = "auto"
) -> dict[str, int]:
    """Return `long_side` and `crop` of a recipe; empty if no training image can be read.

    Images are resized to the median longer side of the training images, at most 512 pixels, so that
    the crop of 320 pixels covers a good part of them. Images that are not 8-bit RGB, and GeoTIFFs,
    keep their own size (no `long_side`): their scale usually has a meaning.

    Raises:
        DataError: The folder is missing, its layout is unknown, or a split list is unreadable.
        ConfigError: `format` is unknown.
    """
    layout, folder = find_layout(root, format)
    files = find_all_files(layout, folder).get(train_split)
    paths = list(files.images.values()) if files else []
    sizes_hw = measure_sizes(paths)
    if not sizes_hw:
        return {}
    long_side = max(32, min(_MAX_LONG_SIDE_PX, round(median(map(max, sizes_hw)))))
    sizes = {"long_side": long_side, "crop": min(_CROP_PX, long_side)}
    has_scale = read_given_bands(root, folder)[0] is not None
    with suppress(DataError):  # reported where it is read
        has_scale |= bool(open_array(paths[0], str(paths[0]))) or is_georeferenced(paths[0])
    return {"crop": sizes["crop"]} if has_scale else sizes


def measure_sizes(paths: Sequence[File]) -> list[tuple[int, int]]:
    """Return the height and width of at most 200 of the images; unreadable ones are left out."""
    sizes_hw = []
    for path in paths[:: -(-len(paths) // _NUM_MEASURED) or 1]:
        with suppress(DataError):  # reported where it is read
            sizes_hw.append(read_image_size(path))
    return sizes_hw
