"""LabelMe: a JSON file with shapes beside each image."""

import math
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import Base64Bytes, Field

from atrous.classes import IGNORE_INDEX
from atrous.errors import DataError
from atrous.formats.canvas import Canvas, Points, check_stated_size
from atrous.formats.label_files import Entry, ImageFiles, has_word, read_json
from atrous.formats.source import Item, Source, name_classes

_WORD = '"shapes"'
_BACKGROUND, _IGNORED = ("_background_", "background"), "__ignore__"


class _Shape(Entry):
    label: Annotated[str, Field(min_length=1)]
    points: Points
    kind: str | None = Field("polygon", alias="shape_type")
    mask: Base64Bytes | None = None


def find(root: Path) -> list[Path]:
    """Return the JSON files below a folder, if there are some of LabelMe."""
    files = sorted(root.rglob("*.json")) if root.is_dir() else []
    return files if any(has_word(path, _WORD) for path in files) else []


def read(root: Path, files: list[Path]) -> Source:
    """Read all JSON files.

    Labels become classes after `background`, in the order of `labels.txt` or else of the alphabet;
    `__ignore__` marks ignored pixels. Later shapes lie on top; points are left out, because they
    have no area.

    Raises:
        DataError: A file is no JSON, or has no shapes.
    """
    skipped, images = Counter[str](), ImageFiles(root)
    found = {}
    for path in files:
        if not has_word(path, _WORD):
            skipped["JSON files without shapes"] += 1
            continue
        content = read_json(path)
        if not isinstance(content, dict) or not isinstance(content.get("shapes"), list):
            raise DataError(f"{path} has no list of 'shapes', as LabelMe writes it.")
        shapes = _Shape.parse_list(content["shapes"], skipped, "shapes with invalid values")
        size_hw = content.get("imageHeight"), content.get("imageWidth")
        found[path] = str(content.get("imagePath", "")), size_hw, shapes
    labels = {shape.label for *_, shapes in found.values() for shape in shapes}
    path = root / "labels.txt"
    text = path.read_text(encoding="utf-8-sig", errors="replace") if path.is_file() else ""
    special = {*_BACKGROUND, _IGNORED, ""}
    names = [name for name in (*text.splitlines(), *sorted(labels)) if name not in special]
    classes, indices = name_classes(names, root)
    indices |= dict.fromkeys(_BACKGROUND, 0) | {_IGNORED: IGNORE_INDEX}
    source = Source("LabelMe", classes, [], skipped)
    for path, (stated, size_hw, shapes) in found.items():
        image = images.find(path.stem, *path.parent.parts)
        if image is None or image.parent != path.parent:
            image = images.find(stated, *path.parent.parts) or image
        if image is None:
            skipped["label files without an image"] += 1
        else:
            load = partial(_draw, image, shapes, indices, size_hw, path)
            source.items.append(Item(image, images.find_split(path), load, (path,)))
    return source


def _draw(
    image: Path,
    shapes: list[_Shape],
    indices: dict[str, int],
    size_hw: tuple[Any, Any],
    path: Path,
    skipped: Counter[str],
) -> np.ndarray:
    if all(isinstance(side, int) for side in size_hw):
        check_stated_size(image, *size_hw, path)
    canvas = Canvas.for_image(image)
    for shape in shapes:
        if not _draw_shape(canvas, shape, indices[shape.label]):
            skipped[f"shapes that cannot be drawn ({shape.kind})"] += 1
    return canvas.to_mask()


def _draw_shape(canvas: Canvas, shape: _Shape, index: int) -> bool:
    points = shape.points
    match shape.kind:
        case "polygon" | None:
            return canvas.draw_polygon(points, index)
        case "rectangle":
            return canvas.draw_rectangle(points, index)
        case "circle" if len(points) == 2:
            return canvas.draw_circle(points[0], math.dist(*points), index)
        case "line" | "linestrip":
            return canvas.draw_line(points, index, width=5)
        case "mask" if points and shape.mask:
            return canvas.paste_png(shape.mask, points[0], index)
        case _:
            return False
