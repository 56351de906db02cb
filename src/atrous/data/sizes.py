"""Sizes of training images that suit a dataset."""

from pathlib import Path
from statistics import median

from atrous.data.dataset import find_split_files
from atrous.data.image_file import read_image_size
from atrous.errors import DataError

_CROP_PX, _MAX_LONG_SIDE_PX, _NUM_MEASURED = 256, 512, 200


def suggest_sizes(
    root: Path | str, train_split: str = "train", *, format: str = "auto"
) -> dict[str, int]:
    """Return `long_side` and `crop` of a recipe; empty if no training image can be read.

    Images are resized to the median longer side of the training images, at most 512 pixels, so that
    the crop of 256 pixels covers a good part of them.

    Raises:
        DataError: The folder is missing, its layout is unknown, or a split list is unreadable.
        ConfigError: `format` is unknown.
    """
    files = find_split_files(root, format=format).get(train_split)
    paths = list(files.images.values()) if files else []
    long_sides = []
    for path in paths[:: -(-len(paths) // _NUM_MEASURED) or 1]:
        try:
            long_sides.append(max(read_image_size(path)))
        except DataError:
            continue  # reported where it is read
    if not long_sides:
        return {}
    long_side = max(32, min(_MAX_LONG_SIDE_PX, round(median(long_sides))))
    return {"long_side": long_side, "crop": min(_CROP_PX, long_side)}
