"""Supervisely: `meta.json`, and folders `img` and `ann` per dataset."""

import zlib
from collections import Counter
from functools import partial
from pathlib import Path

import numpy as np
from pydantic import Base64Bytes, Field

from atrous.errors import DataError
from atrous.formats.canvas import Canvas, Points, check_stated_size
from atrous.formats.label_files import Entry, read_json
from atrous.formats.source import Item, Source, find_split, name_classes

_MAX_BYTES = 2**26


class _Class(Entry):
    title: str


class _Meta(Entry):
    classes: list[_Class]


class _Bitmap(Entry):
    data: Base64Bytes
    origin: tuple[int, int]


class _Outline(Entry):
    exterior: Points
    interior: list[Points] | None = None


class _Size(Entry):
    height: int
    width: int


class _Object(Entry):
    name: str = Field(alias="classTitle")
    kind: str = Field("", alias="geometryType")
    points: _Outline | None = None
    bitmap: _Bitmap | None = None


def find(root: Path) -> list[Path]:
    """Return `meta.json` if there are folders of annotations beside it."""
    path = root / "meta.json"
    return [path] if path.is_file() and any(root.rglob("ann")) else []


def read(root: Path, found: list[Path]) -> Source:
    """Read all datasets of a project.

    Later objects lie on top; pixels of no object are background. Points and lines are left out.

    Raises:
        DataError: `meta.json` has no classes.
    """
    (path,) = found
    meta = _Meta.parse(read_json(path))
    if meta is None:
        raise DataError(f"{path} has no list of 'classes' with titles.")
    classes, indices = name_classes([one.title for one in meta.classes], path)
    source = Source("Supervisely", classes, [])
    for label in sorted(root.rglob("ann/*.json")):
        image = label.parent.parent / "img" / label.stem
        if image.is_file():
            split = find_split(label.relative_to(root).parts[:-2])
            source.items.append(Item(image, split, partial(_draw, image, label, indices), (label,)))
        else:
            source.skipped["label files without an image"] += 1
    return source


def _draw(image: Path, label: Path, indices: dict[str, int], skipped: Counter[str]) -> np.ndarray:
    canvas, content = Canvas.for_image(image), read_json(label)
    objects = content.get("objects") if isinstance(content, dict) else None
    if not isinstance(objects, list):
        raise DataError(f"{label} has no list of 'objects'.")
    if size := _Size.parse(content.get("size")):
        check_stated_size(image, size.height, size.width, label)
    for one in _Object.parse_list(objects, skipped, "objects with invalid values"):
        if one.name not in indices or not _draw_object(canvas, one, indices[one.name]):
            skipped["objects that cannot be drawn"] += 1
    return canvas.to_mask()


def _draw_object(canvas: Canvas, one: _Object, index: int) -> bool:
    if one.bitmap:
        try:
            content = zlib.decompressobj().decompress(one.bitmap.data, _MAX_BYTES)
        except zlib.error:
            return False
        return canvas.paste_png(content, one.bitmap.origin, index)
    region = Canvas(canvas.image.height, canvas.image.width)
    draw = {"rectangle": region.draw_rectangle, "polygon": region.draw_polygon}.get(one.kind)
    if not draw or not one.points or not draw(one.points.exterior, 255):
        return False
    for hole in one.points.interior or []:
        region.draw_polygon(hole, 0)
    return canvas.paste(region.to_mask() > 0, (0, 0), index)
