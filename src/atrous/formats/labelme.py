"""LabelMe: a JSON file with shapes beside each image."""

import base64
from collections import Counter
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from atrous.classes import IGNORE_INDEX
from atrous.data.pairs import list_image_files
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

_BACKGROUND, _IGNORED = ("_background_", "background"), "__ignore__"
_MAX_MASK_PIXELS = 2**26


def find(root: Path) -> list[Path]:
    """Return the JSON files of LabelMe below a folder, if the first one is such a file."""
    files = sorted(root.rglob("*.json")) if root.is_dir() else []
    return files if files and _is_labelme(files[0]) else []


def _is_labelme(path: Path) -> bool:
    with open(path, "rb") as file:
        return b'"shapes"' in file.read(2**20)


def read(root: Path, files: list[Path]) -> Source:
    """Read all JSON files.

    Labels become classes after `background`, in the order of `labels.txt` or else of the alphabet;
    `__ignore__` marks ignored pixels. Later shapes lie on top; points are left out, because they
    have no area.

    Raises:
        DataError: A file is no JSON, or has no shapes.
    """
    contents: dict[Path, Any] = {}
    for path in files:
        content = read_json(path)
        if not isinstance(content, dict) or not isinstance(content.get("shapes"), list):
            raise DataError(f"{path} has no list of 'shapes', as LabelMe writes it.")
        contents[path] = content
    labels = {
        str(shape["label"])
        for content in contents.values()
        for shape in content["shapes"]
        if isinstance(shape, dict) and "label" in shape
    }
    listed = root / "labels.txt"
    names = listed.read_text(encoding="utf-8-sig").splitlines() if listed.is_file() else []
    special = {*_BACKGROUND, _IGNORED, ""}
    names = [name for name in (*names, *sorted(labels - set(names))) if name not in special]
    classes, indices = name_classes(names)
    indices |= dict.fromkeys(_BACKGROUND, 0) | {_IGNORED: IGNORE_INDEX}
    source = Source("LabelMe", classes, [])
    for path, content in contents.items():
        image = _find_image(path, content)
        if image is None:
            source.skipped["label files without an image"] += 1
            continue
        load = partial(_draw, image, content["shapes"], indices)
        split = find_split(path.relative_to(root).parts[:-1])
        source.items.append(Item(image, split, load, (path,)))
    return source


def _find_image(path: Path, content: dict[str, Any]) -> Path | None:
    name = str(content.get("imagePath", "")).replace("\\", "/")
    beside = [path.parent / Path(name).name, *list_image_files(path.parent)]
    return next((p for p in beside if p.is_file() and p.stem == path.stem), None) or next(
        (p for p in beside[:1] if p.is_file()), None
    )


def _draw(
    image: Path, shapes: list[Any], indices: dict[str, int], skipped: Counter[str]
) -> np.ndarray:
    canvas = Canvas.for_image(image)
    for shape in shapes:
        known = isinstance(shape, dict) and str(shape.get("label")) in indices
        if not known or not _draw_shape(canvas, shape, indices[str(shape["label"])]):
            kind = str(shape.get("shape_type", "polygon")) if isinstance(shape, dict) else "?"
            skipped[f"shapes that cannot be drawn ({kind})"] += 1
    return canvas.to_mask()


def _draw_shape(canvas: Canvas, shape: dict[str, Any], index: int) -> bool:
    """Draw a shape of a type that has an area; return whether it could be drawn."""
    kind, points = shape.get("shape_type") or "polygon", shape.get("points")
    if not are_points(points, 3 if kind == "polygon" else 2):
        return False
    (left, top), (right, bottom) = points[:2]
    match kind:
        case "polygon":
            canvas.draw_polygon(points, index)
        case "rectangle":
            canvas.draw_rectangle(points, index)
        case "circle":
            radius = ((right - left) ** 2 + (bottom - top) ** 2) ** 0.5
            box = (left - radius, top - radius, left + radius, top + radius)
            canvas.draw.ellipse(box, fill=index, outline=index)
        case "line" | "linestrip":
            canvas.draw.line([(x, y) for x, y in points], fill=index, width=5)
        case "mask":
            return _paste(canvas, shape.get("mask"), (round(left), round(top)), index)
        case _:
            return False
    return True


def _paste(canvas: Canvas, text: Any, corner: tuple[int, int], index: int) -> bool:
    try:
        region = Image.open(BytesIO(base64.b64decode(text, validate=True)), formats=["PNG"])
        if region.width * region.height > _MAX_MASK_PIXELS:
            return False
        canvas.paste(region, corner, index)
    except (TypeError, ValueError, OSError):
        return False
    return True
