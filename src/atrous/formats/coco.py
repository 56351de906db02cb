"""COCO instances and stuff: one JSON file per split, also as Roboflow and CVAT export it."""

from collections import Counter, defaultdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from atrous.classes import IGNORE_INDEX
from atrous.errors import DataError
from atrous.extras import import_extra
from atrous.formats.source import Item, Source, find_split, name_classes, read_json

_KEYS = {"images", "annotations", "categories"}
_MAX_OUTSIDE = 10  # polygons that reach farther outside, in image sides, are invalid


def find(root: Path) -> dict[Path, Any]:
    """Return the JSON files of a COCO export below a folder, with their contents."""
    files = (
        [root]
        if root.suffix == ".json"
        else sorted(path for pattern in ("*.json", "*/*.json") for path in root.glob(pattern))
    )
    # COCO's own folder also holds keypoints and panoptic segments of the same images.
    files = [path for path in files if path.stem.startswith("instances")] or files
    contents = {path: read_json(path) for path in files if _may_be_coco(path)}
    return {
        path: content
        for path, content in contents.items()
        if isinstance(content, dict) and content.keys() >= _KEYS
    }


def _may_be_coco(path: Path) -> bool:
    with open(path, "rb") as file:
        start = file.read(4096)
    keys = (b'"%s"' % key.encode() in start for key in (*_KEYS, "info"))
    return start.lstrip().startswith(b"{") and (len(start) < 4096 or any(keys))


def read(root: Path, contents: dict[Path, Any]) -> Source:
    """Read all JSON files of an export.

    Polygons and run lengths become masks through pycocotools; of overlapping objects, the smaller
    lies on top; crowds are ignored; pixels of no object are background.

    Raises:
        DataError: A file has entries of the wrong type, or two files have different categories.
        ConfigError: pycocotools is not installed.
    """
    import_extra("pycocotools.mask", "labels")
    names: dict[int, str] = {}
    used = {one.get("category_id") for c in contents.values() for one in _rows(c["annotations"])}
    for path, content in contents.items():
        for row in _rows(content["categories"]):
            number, name = row.get("id"), row.get("name")
            if not isinstance(number, int) or not isinstance(name, str):
                raise DataError(f"{path}: a category needs an integer id and a name: {row!r}.")
            if names.setdefault(number, name) != name:
                raise DataError(f"{path}: category {number} is '{names[number]}' in another file.")
    supers = {row.get("supercategory") for c in contents.values() for row in _rows(c["categories"])}
    # Roboflow adds the name of the project as a category of its own, without annotations.
    kept = {n: name for n, name in sorted(names.items()) if n in used or name not in supers}
    classes, by_name = name_classes(list(kept.values()))
    indices = {number: by_name[name] for number, name in kept.items()}
    source = Source("COCO", classes, [])
    for path, content in contents.items():
        _add_items(source, root, path, content, indices)
    return source


def _rows(value: Any) -> list[dict[str, Any]]:
    return [row for row in value if isinstance(row, dict)] if isinstance(value, list) else []


def _add_items(
    source: Source, root: Path, path: Path, content: Any, indices: dict[int, int]
) -> None:
    by_image: defaultdict[Any, list[dict[str, Any]]] = defaultdict(list)
    for row in _rows(content["annotations"]):
        if row.get("category_id") in indices:
            by_image[row.get("image_id")].append(row)
        else:
            source.skipped["annotations of an unknown category"] += 1
    folder = path.parent if path == root else root
    name = path.stem.rpartition("_")[2]
    split = find_split([name, path.parent.name if path.parent != root else ""])
    places = [path.parent / "images", path.parent, folder / name]
    places += [folder / "images" / name, folder / "images", folder]
    for row in _rows(content["images"]):
        annotations = by_image.pop(row.get("id"), [])
        size_hw: Any = row.get("height"), row.get("width")
        file_name = str(row.get("file_name", ""))
        if ".." in Path(file_name).parts or not all(isinstance(n, int) and n > 0 for n in size_hw):
            source.skipped["images with an invalid entry"] += 1
            continue
        image = next((p / file_name for p in places if (p / file_name).is_file()), None)
        if image is None:
            source.skipped["images without a file"] += 1
            continue
        load = partial(_draw, annotations, size_hw, indices)
        source.items.append(Item(image, split, load, (path,)))
    source.skipped["annotations of an unknown image"] += sum(map(len, by_image.values()))


def _draw(
    annotations: list[dict[str, Any]],
    size_hw: tuple[int, int],
    indices: dict[int, int],
    skipped: Counter[str],
) -> np.ndarray:
    coco = import_extra("pycocotools.mask", "labels")
    drawn = []
    for row in annotations:
        runs = _encode(row.get("segmentation"), size_hw)
        if runs is None:
            skipped["annotations whose segmentation cannot be read"] += 1
        else:
            drawn.append((int(coco.area(runs)), row, runs))
    columns = np.zeros(size_hw[::-1], np.uint8)  # as run lengths go
    for _, row, runs in sorted(drawn, key=lambda one: -one[0]):
        left, _, width, _ = map(int, coco.toBbox(runs))
        span = slice(left, left + width)
        region = np.asarray(coco.decode([runs]))[..., 0].T[span].view(bool)
        columns[span][region] = IGNORE_INDEX if row.get("iscrowd") else indices[row["category_id"]]
    return columns.T


def _encode(segmentation: Any, size_hw: tuple[int, int]) -> Any:
    """Return the run lengths of a segmentation for pycocotools; None if it is invalid.

    Everything is checked before pycocotools sees it, which does not check the bounds of runs.
    """
    coco = import_extra("pycocotools.mask", "labels")
    height, width = size_hw
    try:
        if isinstance(segmentation, list):
            polygons = [p for p in segmentation if len(p) >= 6]
            limit = _MAX_OUTSIDE * max(size_hw)
            values = [value for polygon in polygons for value in polygon]
            if not polygons or any(len(p) % 2 for p in polygons):
                return None
            if not all(-limit <= value <= limit for value in values):  # also false for NaN
                return None
            return coco.merge(coco.frPyObjects(polygons, height, width))
        counts = segmentation["counts"]
        counts = _parse_counts(counts) if isinstance(counts, str) else list(counts)
        if list(segmentation["size"]) != [height, width]:
            return None
        if sum(counts) != height * width or min(counts) < 0:
            return None
        return coco.frPyObjects({"size": [height, width], "counts": counts}, height, width)
    except (TypeError, ValueError, KeyError, IndexError):
        return None


def _parse_counts(text: str) -> list[int]:
    """Return the run lengths of a compressed text: 5 bits per character, the lowest first.

    From the third run on, the text holds the difference to the run two before.
    """
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
    return counts
