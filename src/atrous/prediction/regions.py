"""Connected regions of a mask: their pixels, their exact polygons, simplified lines around them.

Regions are 4-connected: pixels that touch only at a corner belong to different regions.
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from atrous.extras import import_extra

Indices = npt.NDArray[np.uint8]
Pixels = npt.NDArray[np.bool_]
Points = npt.NDArray[np.float64]

Ring = list[tuple[int, int]]
"""Closed line of pixel corners (x, y), from (0, 0) to (width, height)."""

MIN_REGION_PX = 16
"""`merge_small_regions` leaves no smaller region."""

TOLERANCE_PX = 1.0
"""Largest distance by which `simplify_region` moves a line."""


class Region(NamedTuple):
    """The pixels of a region: its value, upper left corner, and bool (H, W) of its box."""

    value: int
    left: int
    top: int
    pixels: Pixels


def merge_small_regions(mask: Indices) -> Indices:
    """Give regions smaller than `MIN_REGION_PX` the value of the largest one beside them."""
    merged: Indices = import_extra("rasterio.features", "geo").sieve(mask, MIN_REGION_PX)
    return merged


def find_regions(mask: Indices, values: Sequence[int]) -> Iterator[Region]:
    """Yield the pixels of the regions of some values."""
    from scipy import ndimage

    for value in values:
        numbers, _ = ndimage.label(mask == value)
        for number, box in enumerate(ndimage.find_objects(numbers), start=1):
            rows, columns = box
            yield Region(value, columns.start, rows.start, numbers[box] == number)


def trace_regions(
    mask: Any, is_traced: Pixels | None = None, *, transform: Any = None
) -> Iterator[tuple[int, list[Ring]]]:
    """Yield the value of each region and its rings: the outline, then its holes.

    Outlines are counterclockwise and holes clockwise, as in RFC 7946. The mask is uint8 (H, W), or,
    with its transform, a band of a dataset of rasterio. Of it, `is_traced` is traced, bool (H, W).
    """
    shapes = import_extra("rasterio.features", "geo").shapes
    for polygon, value in shapes(mask, mask=is_traced, connectivity=4):
        rings = polygon["coordinates"]
        if transform is not None:
            inverse = ~transform
            rings = [[map(round, inverse @ point) for point in ring] for ring in rings]
        yield int(value), [[(int(x), int(y)) for x, y in reversed(ring)] for ring in rings]


def compute_area(rings: Sequence[Ring]) -> int:
    """Return the number of pixels of a region."""
    columns = (np.array(ring).T for ring in rings)
    return int(sum((x[:-1] * y[1:] - x[1:] * y[:-1]).sum() for x, y in columns)) // 2


def simplify_region(rings: Sequence[Ring]) -> Points:
    """Return one line through the outermost pixels of a region, moved by `TOLERANCE_PX` at most.

    A line that is not moved gives the region exactly when it is filled including its own pixels, as
    LabelMe and Ultralytics do. Each hole is joined to the outline by a cut without width, along
    which the line runs there and back. A region without inner area, such as a row of pixels, is
    enclosed by the line along its pixels' sides. Points (x, y) are (N, 2) with N ≥ 3, not closed.
    """
    line, is_fixed = _join_holes(rings)
    is_kept = is_fixed.copy()
    spans = list(pairwise(np.flatnonzero(is_fixed).tolist()))
    while spans:  # Douglas and Peucker 1973
        start, end = spans.pop()
        if end - start > 1:
            distances = _compute_distances(line[start + 1 : end], line[start], line[end])
            middle = start + 1 + int(distances.argmax())
            if distances.max() > TOLERANCE_PX:
                is_kept[middle] = True
                spans += [(start, middle), (middle, end)]
    return line[is_kept][:-1] if is_kept.sum() > 3 else np.array(rings[0][:-1], np.float64)


def _join_holes(rings: Sequence[Ring]) -> tuple[Points, Pixels]:
    """Return a closed line through all rings, and which of its points are ends of it or of cuts.

    A cut runs from the left end of a hole to the next border further left, along a row.
    """
    line = _move_inside(rings[0])
    for hole in sorted(rings[1:], key=min):  # so that the border on its left is in the line
        ring = _move_inside(hole)
        is_leftmost = ring[:, 0] == ring[:, 0].min()
        at = int(np.flatnonzero(is_leftmost[:-1] & is_leftmost[1:])[0])
        x, y = ring[at, 0], ring[at : at + 2, 1].min() + 0.5  # a pixel's side
        start = np.array([[x, y, x - 0.5, y, True]])
        tops, bottoms = np.sort([line[:-1, 1], line[1:, 1]], axis=0)
        is_left = (line[:-1, 0] == line[1:, 0]) & (line[:-1, 0] < x) & (tops < y) & (y < bottoms)
        hit = int(np.where(is_left, line[:-1, 0], -1).argmax())
        end = np.array([[line[hit, 0], y, line[hit, 0] + 0.5, y, True]])
        around = (start, ring[at + 1 :], ring[1 : at + 1], start)
        line = np.concatenate((line[: hit + 1], end, *around, end, line[hit + 1 :]))
    line[[0, -1], 4] = True
    return line[:, 2:4], line[:, 4].astype(bool)


def _move_inside(ring: Ring) -> Points:
    """Return for both ends of each side of a ring: x, y, x and y of the pixel inside, and False."""
    corners = np.array(ring, np.float64)
    steps = np.sign(np.diff(corners, axis=0)) / 2
    inwards = np.column_stack((-steps[:, 1], steps[:, 0]))
    starts = np.column_stack((corners[:-1], corners[:-1] + steps + inwards))
    ends = np.column_stack((corners[1:], corners[1:] - steps + inwards))
    rows = np.stack((starts, ends), axis=1).reshape(-1, 4)
    return np.pad(np.concatenate((rows, rows[:1])), ((0, 0), (0, 1)))


def _compute_distances(points: Points, start: Points, end: Points) -> Points:
    along = end - start
    share = np.clip((points - start) @ along / max(float(along @ along), 1e-9), 0, 1)
    return np.hypot(*(points - start - share[:, None] * along).T)
