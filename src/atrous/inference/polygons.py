"""Masks as polygons: exact outlines of regions along the edges of their pixels, as GeoJSON."""

from collections import defaultdict
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from atrous.classes import Classes

Indices = npt.NDArray[np.uint8]
Labels = npt.NDArray[np.int32]
Ring = list[tuple[int, int]]

_EAST, _SOUTH, _WEST, _NORTH = range(4)


def build_geojson(mask: Indices, classes: Classes) -> dict[str, Any]:
    """Return every region of a mask as a polygon with holes.

    A region is what hangs together by the sides of its pixels. Coordinates are corners of pixels:
    x to the right and y down, from 0, 0 at the top left corner of the picture to its width and
    height. Filling the polygons gives the mask back. Void has none.

    Shapes:
        mask: uint8 (H, W), class indices, void 255
    """
    height, width = mask.shape
    labels, owners = label_regions(mask, len(classes))
    areas = np.bincount(labels.ravel(), minlength=len(owners) + 1)
    features = [
        {
            "type": "Feature",
            "properties": {
                "class": classes.names[owners[label - 1]],
                "index": owners[label - 1],
                "area_px": int(areas[label]),
            },
            "geometry": {"type": "Polygon", "coordinates": rings},
        }
        for label, rings in sorted(trace_regions(labels).items())
    ]
    frame = {"width": width, "height": height, "x": "right", "y": "down", "unit": "pixel"}
    return {"type": "FeatureCollection", "pixel_frame": frame, "features": features}


def label_regions(mask: Indices, num_classes: int) -> tuple[Labels, list[int]]:
    """Number the connected regions of a mask.

    Shapes:
        mask: uint8 (H, W)
        returns: int32 (H, W), from 1, 0 for void; and the class of each region
    """
    labels = np.zeros(mask.shape, np.int32)
    owners: list[int] = []
    for index, box in enumerate(ndimage.find_objects(mask + np.uint8(1), num_classes)):
        if box is not None:
            inside = mask[box] == index
            regions, num_regions = ndimage.label(inside)
            labels[box][inside] = regions[inside] + len(owners)
            owners += [index] * num_regions
    return labels, owners


def trace_regions(labels: Labels) -> dict[int, list[Ring]]:
    """Return for each label its closed rings: first the outline, then the holes.

    The region lies to the right of its ring as one walks along it with y down. Where two of its
    pixels touch by a corner only, the ring goes from one to the other, so that no ring meets
    itself and a hole that touches the outline is a hole.
    """
    label_of, start, end, heading = _find_sides(labels)
    following = _follow(label_of, start, end, heading, labels.shape[1] + 1)
    rings: dict[int, list[Ring]] = defaultdict(list)
    xs, ys = (start % (labels.shape[1] + 1)).tolist(), (start // (labels.shape[1] + 1)).tolist()
    seen = bytearray(len(following))
    for first, label in enumerate(label_of.tolist()):
        if seen[first]:
            continue
        ring, side = [], first
        while not seen[side]:
            seen[side] = 1
            ring.append((xs[side], ys[side]))
            side = following[side]
        rings[label].append([*ring, ring[0]])
    # A region's first pixel, in reading order, is on its outline, whose sides come first: the
    # sides that head east are listed first, from the top of the picture to its bottom.
    return dict(rings)


def _find_sides(labels: Labels) -> tuple[npt.NDArray[np.int64], ...]:
    """Return the straight sides of all regions: label, start and end corner, and heading.

    A corner is numbered y * (width + 1) + x.
    """
    padded = np.pad(labels, 1)
    row_px = labels.shape[1] + 1
    parts = []
    for heading, (dy, dx) in enumerate([(-1, 0), (0, 1), (1, 0), (0, -1)]):  # where outside is
        outside = padded[1 + dy :, 1 + dx :][: labels.shape[0], : labels.shape[1]]
        is_side = (labels != outside) & (labels > 0)
        along = 1 if heading in (_EAST, _WEST) else 0
        first, last = _find_run_ends(is_side, labels, along)
        if heading in (_WEST, _NORTH):
            first, last = last, first
        # From the pixel to the corner that the side starts and ends at.
        (y0, x0), (y1, x1) = {
            _EAST: ((0, 0), (0, 1)),
            _SOUTH: ((0, 1), (1, 1)),
            _WEST: ((1, 1), (1, 0)),
            _NORTH: ((1, 0), (0, 0)),
        }[heading]
        start = (first[0] + y0) * row_px + first[1] + x0
        end = (last[0] + y1) * row_px + last[1] + x1
        parts.append((labels[first], start, end, np.full(len(start), heading)))
    return tuple(np.concatenate(part).astype(np.int64) for part in zip(*parts, strict=True))


def _find_run_ends(
    is_side: npt.NDArray[np.bool_], labels: Labels, along: int
) -> tuple[tuple[npt.NDArray[np.intp], ...], tuple[npt.NDArray[np.intp], ...]]:
    """Return the first and last pixels of straight runs of sides of one region."""
    side, label = (is_side, labels) if along == 1 else (is_side.T, labels.T)
    joined = side[:, 1:] & side[:, :-1] & (label[:, 1:] == label[:, :-1])
    first, last = side.copy(), side.copy()
    first[:, 1:] &= ~joined
    last[:, :-1] &= ~joined
    firsts, lasts = np.nonzero(first), np.nonzero(last)
    return (firsts, lasts) if along == 1 else (firsts[::-1], lasts[::-1])


def _follow(
    label_of: npt.NDArray[np.int64],
    start: npt.NDArray[np.int64],
    end: npt.NDArray[np.int64],
    heading: npt.NDArray[np.int64],
    row_px: int,
) -> list[int]:
    """Return for each side the one that its ring goes on with: to the left if there is one."""
    keys = start * 4 + heading
    order = np.argsort(keys)
    sorted_keys = keys[order]

    def find(turn: int) -> npt.NDArray[np.int64]:
        wanted = end * 4 + (heading + turn) % 4
        places = np.searchsorted(sorted_keys, wanted).clip(max=max(0, len(keys) - 1))
        return np.where(sorted_keys[places] == wanted, order[places], -1)

    left, right = find(-1), find(1)
    turns_left = (left >= 0) & (label_of[left] == label_of)
    return np.where(turns_left, left, right).tolist()
