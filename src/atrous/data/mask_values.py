"""What the values of masks mean: a class, the ignore index, or neither."""

import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from atrous.classes import IGNORE_INDEX, Classes, build_classes
from atrous.data.sample import read_indices, shorten
from atrous.errors import DataError

if TYPE_CHECKING:
    from torch import Tensor

_MANY_VALUES = 8


def read_mask(path: Path, *, num_classes: int, ignore_index: int = IGNORE_INDEX) -> "Tensor":
    """Read a mask of class indices; palette masks keep their indices.

    Args:
        path: Palette or grey image without loss (PNG, TIFF, BMP), one number per pixel.
        num_classes: Values from 0 to this, exclusive, are classes.
        ignore_index: Value in the file of the pixels to ignore; no other value is ignored.

    Shapes:
        returns: uint8 (H, W), ignored pixels as `IGNORE_INDEX`

    Raises:
        DataError: The file cannot be read, has colours or loss, or a value that is no class.
    """
    import torch  # here, since `atrous check` reads files without it

    indices = read_indices(path)
    if wrong := find_wrong_values(indices, num_classes, ignore_index):
        raise DataError(
            f"The mask {path} has values that are no class: "
            f"{describe_wrong_values(wrong, num_classes, ignore_index)}"
        )
    return torch.from_numpy(mark_ignored(indices, ignore_index))


def find_wrong_values(indices: np.ndarray, num_classes: int, ignore_index: int) -> list[int]:
    """Return the sorted values that are neither a class nor `ignore_index`."""
    suspects = indices[(indices >= num_classes) | (indices < 0)]
    return [value for value in np.unique(suspects).tolist() if value != ignore_index]


def describe_wrong_values(values: list[int], num_classes: int, ignore_index: int) -> str:
    """Name mask values that are no class, say what was expected and what can be done.

    Args:
        values: From `find_wrong_values`, of one mask or of several.
        num_classes: Values from 0 to this, exclusive, are classes.
        ignore_index: Value of ignored pixels.
    """
    expected = f"where 0 to {num_classes - 1} are classes and {ignore_index} marks ignored pixels."
    return f"{shorten(values)}, {expected} {advise_on_wrong_values(values)}"


def advise_on_wrong_values(values: list[int]) -> str:
    """Say what can be done about mask values that are no class."""
    advice = []
    if len(values) == 1:
        value = values[0]
        if value == IGNORE_INDEX:
            advice.append(
                "If 255 is the foreground of binary masks, `atrous check DATA --fix DIR` writes 1 "
                "instead."
            )
        advice.append(
            f"If {value} marks pixels to ignore, make it the ignore index: `--set "
            f"data.ignore_index={value}` in `atrous train`, `--ignore-index {value}` in `atrous "
            f"check` and `evaluate`, or `ignore_index = {value}` beside the names in classes.toml."
        )
    else:
        advice.append("Only one value can mark pixels to ignore, the ignore index.")
    if all(0 <= value < IGNORE_INDEX for value in values):
        advice.append("If all are classes, list them in classes.toml.")
    else:
        advice.append(f"Class indices go from 0 to {IGNORE_INDEX - 1}: renumber what is a class.")
    if len(values) >= _MANY_VALUES:
        advice.append(
            "If each object has a number of its own (instance or panoptic ids), write the index "
            "of its class instead."
        )
    return " ".join(advice)


def mark_ignored(indices: np.ndarray, ignore_index: int) -> np.ndarray:
    """Return mask values as in memory: `ignore_index` becomes `IGNORE_INDEX`, in place where it can.

    Shapes:
        indices: integer (H, W), without wrong values
        returns: uint8 (H, W)
    """
    if ignore_index != IGNORE_INDEX:
        indices[indices == ignore_index] = IGNORE_INDEX
    return indices.astype(np.uint8, copy=False)


def number_classes(masks: Iterable[Path], ignore_index: int) -> Classes:
    """Name the classes by their numbers, up to the largest value in some masks.

    Raises:
        DataError: A mask cannot be read, all pixels are ignored, or a value cannot be a class.
    """
    stamps = tuple((path, path.stat().st_mtime_ns if path.exists() else 0) for path in masks)
    return build_classes([str(index) for index in range(_find_num_classes(stamps, ignore_index))])


@lru_cache(maxsize=8)
def _find_num_classes(stamps: tuple[tuple[Path, int], ...], ignore_index: int) -> int:
    paths = [path for path, _ in stamps]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        found = list(pool.map(lambda path: set(np.unique(read_indices(path)).tolist()), paths))
    values = set().union(*found) - {ignore_index}
    if not values:
        raise DataError(
            f"Cannot number the classes: every pixel of {len(paths)} masks, such as {paths[0]}, "
            f"has the value {ignore_index}, which marks ignored pixels. Look at the masks, or set "
            "ignore_index to another value."
        )
    if wrong := sorted(value for value in values if not 0 <= value < IGNORE_INDEX):
        first = next(path for path, own in zip(paths, found, strict=True) if own & set(wrong))
        raise DataError(
            f"Cannot number the classes of {len(paths)} masks, such as {first}: "
            f"{describe_wrong_values(wrong, IGNORE_INDEX, ignore_index)}"
        )
    return int(max(values)) + 1
