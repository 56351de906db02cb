"""COCO panoptic: one JSON file per split, and a folder of PNGs whose colours are segment ids."""

from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from atrous.classes import IGNORE_INDEX
from atrous.data.mask_values import renumber
from atrous.errors import DataError
from atrous.formats.coco_json import find_contents, find_images, read_categories
from atrous.formats.label_files import Entry, ImageFiles
from atrous.formats.source import Item, Source, name_classes
from atrous.images.image_file import decode_image

_INVALID = "segments with an invalid entry"


class _Segment(Entry):
    id: int
    category_id: int
    iscrowd: bool = False


class _Annotation(Entry):
    image_id: str
    file_name: str
    segments_info: list[Any]


def find(root: Path) -> dict[Path, Any]:
    """Return the JSON files with panoptic segments below a folder, with their contents."""
    return find_contents(root, is_panoptic=True)


def read(root: Path, contents: dict[Path, Any]) -> Source:
    """Read all JSON files and the PNGs that they name.

    The id of a segment is red + 256 · green + 65536 · blue. Crowds and pixels of no listed segment
    are ignored.

    Raises:
        DataError: A category is invalid, or has another name in another file.
    """
    categories = read_categories(contents)
    names = [one.name for one in categories]
    classes, by_name = name_classes(names, next(iter(contents)), has_background=False)
    indices = {one.id: by_name[one.name] for one in categories}
    source = Source("COCO panoptic", classes, [])
    skipped, files = source.skipped, ImageFiles(root)
    annotations = {
        (path, row.image_id): row
        for path, content in contents.items()
        for row in _Annotation.parse_list(content["annotations"], skipped, _INVALID)
    }
    for path, image, entry, split in find_images(root, contents, skipped):
        annotation = annotations.get((path, entry.id))
        name = annotation.file_name if annotation else ""
        mask = files.find(name, path.stem, *path.parent.parts, other_than=image)
        if annotation is None or mask is None:
            skipped["images without a panoptic PNG"] += 1
        else:
            load = partial(_translate, mask, annotation.segments_info, indices)
            source.items.append(Item(image, split, load, (path, mask)))
    return source


def _translate(
    path: Path, segments: list[Any], indices: dict[int, int], skipped: Counter[str]
) -> np.ndarray:
    image = decode_image(path).image
    if image.mode not in ("RGB", "RGBA"):
        raise DataError(f"The panoptic mask {path} has mode {image.mode}, not RGB.")
    table = {}
    for segment in _Segment.parse_list(segments, skipped, _INVALID):
        if segment.category_id not in indices:
            skipped["segments of an unknown category"] += 1
        elif not segment.iscrowd:
            table[segment.id] = indices[segment.category_id]
    table[0] = IGNORE_INDEX
    red, green, blue = np.asarray(image.convert("RGB")).astype(np.int32).transpose(2, 0, 1)
    return renumber(red + 256 * green + 65536 * blue, table)
