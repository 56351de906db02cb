"""Mask values: classes, the ignore index, and values that are neither."""

from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from atrous.classes import IGNORE_INDEX, Classes, build_classes
from atrous.errors import DataError, shorten
from atrous.images.reading import read_indices
from atrous.images.shard_file import File
from atrous.timing import count_cores

if TYPE_CHECKING:
    from torch import Tensor

_MANY_VALUES = 8


def read_mask(path: File, *, num_classes: int, ignore_index: int = IGNORE_INDEX) -> "Tensor":
    """Read a mask of class indices from a palette or grey image in a lossless format.

    Only `ignore_index` is ignored; any other value from `num_classes` on is an error.

    Shapes:
        returns: uint8 (H, W), ignored pixels as `IGNORE_INDEX`

    Raises:
        DataError: The file cannot be read, is RGB or JPEG, or contains a value that is no class.
    """
    import torch  # here, since `atrous check` reads files without it

    indices = read_indices(path)
    if wrong := find_wrong_values(indices, num_classes, ignore_index):
        raise DataError(
            f"The mask {path} contains values that are no class: "
            f"{describe_wrong_values(wrong, num_classes, ignore_index)}"
        )
    return torch.from_numpy(mark_ignored(indices, ignore_index))


def find_wrong_values(indices: np.ndarray, num_classes: int, ignore_index: int) -> list[int]:
    """Return the sorted values that are neither a class nor `ignore_index`."""
    suspects = indices[(indices >= num_classes) | (indices < 0)]
    return [value for value in np.unique(suspects).tolist() if value != ignore_index]


def describe_wrong_values(values: list[int], num_classes: int, ignore_index: int) -> str:
    """Return a text on the result of `find_wrong_values`, for one mask or several, with advice."""
    advice = []
    if len(values) == 1:
        value = values[0]
        if value == IGNORE_INDEX:
            advice.append(
                "If 255 is the foreground of binary masks, `atrous check DATA --fix DIR` replaces "
                "it by 1."
            )
        advice.append(
            f"If {value} marks ignored pixels, make it the ignore index: `--ignore-index {value}` "
            f"in `atrous check`, `train` and `evaluate`, or `ignore_index = {value}` beside the "
            "names in classes.toml."
        )
    else:
        advice.append("Only one value, the ignore index, can mark ignored pixels.")
    if all(0 <= value < IGNORE_INDEX for value in values):
        advice.append("If all are classes, list them in classes.toml.")
    else:
        advice.append(
            f"Class indices are 0 to {IGNORE_INDEX - 1}. List the classes in a file, one "
            "`value,name` per line; `atrous check DATA --names FILE --fix DIR` renumbers them."
        )
    if len(values) >= _MANY_VALUES:
        advice.append(
            "If each object has its own number (instance or panoptic ids), write the index "
            "of its class instead."
        )
    expected = f"where 0 to {num_classes - 1} are classes and {ignore_index} marks ignored pixels."
    return " ".join((f"{shorten(values)}, {expected}", *advice))


def mark_ignored(indices: np.ndarray, ignore_index: int) -> np.ndarray:
    """Replace `ignore_index` by `IGNORE_INDEX`, in place where possible.

    Shapes:
        indices: integer (H, W), classes and `ignore_index` only
        returns: uint8 (H, W)
    """
    if ignore_index != IGNORE_INDEX:
        indices[indices == ignore_index] = IGNORE_INDEX
    return indices.astype(np.uint8, copy=False)


def renumber(values: np.ndarray, indices: Mapping[int, int]) -> np.ndarray:
    """Replace values by class indices, and all others by `IGNORE_INDEX`.

    Shapes:
        values: integer (H, W)
        returns: uint8 (H, W)
    """
    unique, inverse = np.unique(values, return_inverse=True)
    new = [indices.get(value, IGNORE_INDEX) for value in unique.tolist()]
    return np.array(new, np.uint8)[inverse].reshape(values.shape)


def number_classes(masks: Iterable[Path], ignore_index: int) -> Classes:
    """Return classes named by their numbers, up to the largest value in the masks.

    Raises:
        DataError: A mask cannot be read, all pixels are ignored, or a value cannot be a class.
    """
    stamps = tuple((path, path.stat().st_mtime_ns if path.exists() else 0) for path in masks)
    return build_classes([str(index) for index in range(_find_num_classes(stamps, ignore_index))])


@lru_cache(maxsize=8)
def _find_num_classes(stamps: tuple[tuple[Path, int], ...], ignore_index: int) -> int:
    paths = [path for path, _ in stamps]
    with ThreadPoolExecutor(count_cores()) as pool:
        found = list(pool.map(lambda path: set(np.unique(read_indices(path)).tolist()), paths))
    values = set().union(*found) - {ignore_index}
    if not values:
        raise DataError(
            f"Cannot number the classes: every pixel of {len(paths)} masks, such as {paths[0]}, "
            f"has the value {ignore_index}, the ignore index. Check the masks, or set ignore_index "
            "to another value."
        )
    if wrong := sorted(value for value in values if not 0 <= value < IGNORE_INDEX):
        first = next(path for path, own in zip(paths, found, strict=True) if own & set(wrong))
        raise DataError(
            f"Cannot number the classes of {len(paths)} masks, such as {first}: "
            f"{describe_wrong_values(wrong, IGNORE_INDEX, ignore_index)}"
        )
    return int(max(values)) + 1
