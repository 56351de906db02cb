"""Detection of masks that hold object ids, such as instance or panoptic ids, instead of classes.

Object ids start again in every file or never repeat, and each is one connected component. A class
has the same number in every file, and usually several components.
"""

from collections import Counter
from collections.abc import Sequence, Set
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from atrous.classes import IGNORE_INDEX

_GRID_PX = 512
_MAX_VALUES = 256
_MAX_OVERLAP = 8
"""Maximum total area of bounding boxes, in image areas; scattered values soon exceed it."""

_MAX_SCATTERED = 0.1
_MIN_IN_ORDER = 0.9
_MIN_OBJECTS = 4
_MANY_OBJECTS = 20
_MIN_COLORS = 4
_MIN_NEXT = 3


def find_scattered(indices: npt.NDArray[np.integer]) -> frozenset[int]:
    """Return the values other than 0 with more than one connected component.

    Large masks are subsampled to at most 512 × 512; only the first 256 values are tested.

    Shapes:
        indices: integer (H, W)
    """
    step = -(-max(indices.shape) // _GRID_PX)
    small = indices[::step, ::step]
    values, places = np.unique(small, return_inverse=True)
    boxes = ndimage.find_objects(places.reshape(small.shape) + 1)
    chosen = [pair for pair in zip(values.tolist(), boxes, strict=True) if pair[0]][:_MAX_VALUES]
    scattered, area = set(), 0
    for value, box in chosen:
        piece = small[box] == value
        area += piece.size
        if area > _MAX_OVERLAP * small.size:
            return frozenset(value for value, _ in chosen)
        if ndimage.label(piece, np.ones((3, 3)))[1] > 1:
            scattered.add(value)
    return frozenset(scattered)


def are_object_ids(masks: Sequence[tuple[Set[int], Set[int]]]) -> bool:
    """Return whether the values of masks are object ids.

    They are if nearly all are one connected component, and either each file starts with 1 again or
    most of many values occur in one file only. `masks` are the values of each mask without 0 and
    the ignore index, and the scattered ones of them.
    """
    masks = [(values, scattered) for values, scattered in masks if values]
    num_values = sum(len(values) for values, _ in masks)
    num_scattered = sum(len(values & scattered) for values, scattered in masks)
    if not masks or num_scattered > _MAX_SCATTERED * num_values:
        return False
    sizes = {len(values) for values, _ in masks}
    num_in_order = sum(  # 1 to n, possibly without 255
        max(values) - len(values) <= (max(values) > IGNORE_INDEX) for values, _ in masks
    )
    is_varied = len(sizes) > (2 if max(sizes) < _MANY_OBJECTS else 1)
    if num_in_order >= _MIN_IN_ORDER * len(masks) and max(sizes) >= _MIN_OBJECTS and is_varied:
        return True
    num_unique, num_distinct = _count_unique([values for values, _ in masks])
    return len(masks) > 2 and num_distinct >= _MANY_OBJECTS and num_unique > 0.5 * num_distinct


def are_object_colors(masks: Sequence[Set[tuple[int, int, int]]]) -> bool:
    """Return whether colours are object ids.

    They are if most occur in one file only, if many are consecutive 24-bit numbers, or if each
    file has the first colours of one series. `masks` are the colours of each mask without black.
    """
    num_unique, num_distinct = _count_unique(masks)
    if num_distinct < _MIN_COLORS:
        return False
    if len(masks) > 1 and num_unique > 0.5 * num_distinct:
        return True
    colors = set().union(*masks)
    for weights in ((1, 256, 65536), (65536, 256, 1)):
        numbers = {sum(w * c for w, c in zip(weights, color, strict=True)) for color in colors}
        num_next = sum(number + 1 in numbers for number in numbers)
        if num_next >= max(_MIN_NEXT, 0.3 * len(numbers)):
            return True
    ordered = sorted(masks, key=len)
    is_chain = all(a <= b for a, b in pairwise(ordered))
    return is_chain and num_distinct >= 2 * _MIN_OBJECTS and len({len(m) for m in masks}) >= 3


def _count_unique(masks: Sequence[Set[Any]]) -> tuple[int, int]:
    """Return the number of values that occur in one mask only, and of all values."""
    times = Counter(value for values in masks for value in values)
    return sum(count == 1 for count in times.values()), len(times)
