"""COCO instances and stuff: one JSON file per split, also as Roboflow and CVAT export it."""

from collections import Counter, defaultdict
from functools import partial
from operator import index
from pathlib import Path
from typing import Any

import numpy as np

from atrous.classes import IGNORE_INDEX
from atrous.errors import DataError
from atrous.extras import import_extra
from atrous.formats.canvas import MAX_OUTSIDE, check_stated_size
from atrous.formats.coco_json import ImageId, find_contents, find_images, read_categories
from atrous.formats.label_files import Entry
from atrous.formats.source import Item, Source, name_classes

_INVALID = "annotations whose segmentation cannot be read"


class _Annotation(Entry):
    image_id: ImageId
    category_id: int
    segmentation: Any = None
    iscrowd: bool = False


def find(root: Path) -> dict[Path, Any]:
    """Return the JSON files of a COCO export below a folder, with their contents."""
    return find_contents(root, is_panoptic=False)


def read(root: Path, contents: dict[Path, Any]) -> Source:
    """Read all JSON files of an export.

    Polygons and run lengths become masks through pycocotools; of overlapping objects, the smaller
    lies on top; crowds are ignored; pixels of no object are background.

    Raises:
        DataError: A category is invalid, or has another name in another file.
        ConfigError: pycocotools is not installed.
    """
    import_extra("pycocotools.mask", "labels")
    categories = read_categories(contents)
    skipped: Counter[str] = Counter()
    by_image: defaultdict[tuple[Path, str], list[_Annotation]] = defaultdict(list)
    for path, content in contents.items():
        for row in _Annotation.parse_list(content["annotations"], skipped, _INVALID):
            by_image[path, row.image_id].append(row)
    used = {row.category_id for rows in by_image.values() for row in rows}
    supers = {one.supercategory for one in categories if one.supercategory != one.name}
    # Roboflow adds the name of the project as a category of its own, without annotations.
    kept = [one for one in categories if one.id in used or one.name not in supers]
    classes, by_name = name_classes([one.name for one in kept], next(iter(contents)))
    indices = {one.id: by_name[one.name] for one in kept}
    source, num_used = Source("COCO", classes, [], skipped), 0
    for path, image, entry, split in find_images(root, contents, skipped):
        rows = by_image.pop((path, entry.id), [])
        num_used += len(rows)
        load = partial(_draw, rows, (entry.height, entry.width), indices, image, path)
        source.items.append(Item(image, split, load, (path,)))
    if (num_lost := sum(map(len, by_image.values()))) and not num_used:
        raise DataError(
            f"None of the {num_lost} annotations in {', '.join(map(str, contents))} has the "
            "`image_id` of an image that is there."
        )
    skipped["annotations without an image"] += num_lost
    return source


def _draw(
    annotations: list[_Annotation],
    size_hw: tuple[int, int],
    indices: dict[int, int],
    image: Path,
    path: Path,
    skipped: Counter[str],
) -> np.ndarray:
    check_stated_size(image, *size_hw, path)  # the mask may be for the image as stored
    coco = import_extra("pycocotools.mask", "labels")
    drawn = []
    for row in annotations:
        if row.category_id not in indices:
            skipped["annotations of an unknown category"] += 1
        elif not row.segmentation:
            skipped["boxes without a mask"] += 1
        elif (runs := _encode(row.segmentation, *size_hw)) is None:
            skipped[_INVALID] += 1
        else:
            drawn.append((int(coco.area(runs)), row, runs))
    columns = np.zeros(size_hw[::-1], np.uint8)  # as run lengths go
    for _, row, runs in sorted(drawn, key=lambda one: -one[0]):
        left, _, width, _ = map(int, coco.toBbox(runs))
        span = slice(left, left + width)
        region = np.asarray(coco.decode([runs]))[..., 0].T[span].view(bool)
        columns[span][region] = IGNORE_INDEX if row.iscrowd else indices[row.category_id]
    return columns.T


def _encode(segmentation: Any, height: int, width: int) -> Any:
    """Return the run lengths for pycocotools, which checks no bounds; None if they are invalid."""
    coco = import_extra("pycocotools.mask", "labels")
    try:
        if isinstance(segmentation, list):
            polygons = [p for p in segmentation if len(p) >= 6]
            limit = MAX_OUTSIDE * max(height, width)
            values = [value for polygon in polygons for value in polygon]
            if not polygons or any(len(p) % 2 for p in polygons):
                return None
            if not all(-limit <= value <= limit for value in values):  # also false for NaN
                return None
            return coco.merge(coco.frPyObjects(polygons, height, width))
        counts = segmentation["counts"]
        counts = _parse_counts(counts) if isinstance(counts, str) else list(map(index, counts))
        if list(segmentation["size"]) != [height, width]:
            return None
        if sum(counts) != height * width or min(counts) < 0:
            return None
        return coco.frPyObjects({"size": [height, width], "counts": counts}, height, width)
    except (TypeError, ValueError, KeyError, IndexError):
        return None


def _parse_counts(text: str) -> list[int]:
    """Return run lengths from 5 bits per character; from the third on, less the one two before."""
    counts: list[int] = []
    value = shift = 0
    for character in text:
        bits = ord(character) - 48
        if not 0 <= bits < 64:
            raise ValueError("not a character of compressed run lengths")
        value |= (bits & 31) << shift
        shift += 5
        if not bits & 32:
            if bits & 16:
                value -= 1 << shift
            counts.append(value + (counts[-2] if len(counts) > 2 else 0))
            value = shift = 0
        elif shift > 60:
            raise ValueError("a number of too many bits")
    return counts
