"""Supervisely: `meta.json`, and folders `img` and `ann` per dataset."""

import base64
import zlib
from collections import Counter
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from atrous.errors import DataError
from atrous.formats.source import (
    Canvas,
    Item,
    Source,
    are_points,
    find_split,
    name_classes,
    read_json,
)

_MAX_BYTES = 2**26


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
    meta = read_json(path)
    try:
        names = [str(row["title"]) for row in meta["classes"]]
    except (KeyError, TypeError):
        raise DataError(f"{path} has no classes with titles.") from None
    classes, indices = name_classes(names)
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
    for one in objects:
        known = isinstance(one, dict) and one.get("classTitle") in indices
        if not known or not _draw_object(canvas, one, indices[one["classTitle"]]):
            skipped["objects that cannot be drawn"] += 1
    return canvas.to_mask()


def _draw_object(canvas: Canvas, one: dict[str, Any], index: int) -> bool:
    if isinstance(bitmap := one.get("bitmap"), dict):
        return _paste(canvas, bitmap, index)
    points = one.get("points")
    exterior = points.get("exterior") if isinstance(points, dict) else None
    region = Canvas(canvas.image.height, canvas.image.width)
    if one.get("geometryType") == "rectangle" and are_points(exterior, 2):
        region.draw_rectangle(exterior, 255)
    elif one.get("geometryType") == "polygon" and are_points(exterior, 3):
        region.draw_polygon(exterior, 255)
    else:
        return False
    for hole in points.get("interior") or [] if isinstance(points, dict) else []:
        if are_points(hole, 3):
            region.draw_polygon(hole, 0)
    canvas.image.paste(index, (0, 0), region.image)
    return True


def _paste(canvas: Canvas, bitmap: dict[str, Any], index: int) -> bool:
    try:
        packed = base64.b64decode(bitmap["data"], validate=True)
        content = zlib.decompressobj().decompress(packed, _MAX_BYTES)
        image = Image.open(BytesIO(content), formats=["PNG"])
        if image.width * image.height > _MAX_BYTES:
            return False
        # The mask is the alpha channel, or a grey image.
        region = image.convert("RGBA").getchannel("A") if "A" in image.getbands() else image
        left, top = bitmap["origin"]
        canvas.paste(region, (int(left), int(top)), index)
    except (KeyError, TypeError, ValueError, OSError, zlib.error):
        return False
    return True
