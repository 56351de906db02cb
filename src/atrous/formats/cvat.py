"""CVAT for images 1.1: one XML file with polygons, boxes, ellipses and masks."""

import math
from collections import Counter
from functools import partial
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
from PIL import Image

from atrous.errors import DataError
from atrous.formats.source import Canvas, Item, Source, are_points, find_split, name_classes

Shape = dict[str, str]


def find(root: Path) -> list[Path]:
    """Return the XML files of CVAT in a folder."""
    files = [root] if root.suffix == ".xml" else sorted(root.glob("*.xml"))
    return [path for path in files if b"<annotations>" in path.read_bytes()[:1000]]


def read(root: Path, files: list[Path]) -> Source:
    """Read all XML files.

    Shapes lie on top of each other by their `z_order`, then in the order of the file; pixels of no
    shape are background. Points, polylines and skeletons are left out, because they have no area.

    Raises:
        DataError: A file is no XML.
    """
    names: list[str] = []
    images: list[tuple[Path, Shape, list[Shape]]] = []
    for path in files:
        try:
            for _, element in ElementTree.iterparse(path):
                if element.tag == "label" and (name := element.findtext("name")):
                    names.append(name)
                if element.tag == "image":
                    shapes = [{"kind": child.tag, **child.attrib} for child in element]
                    images.append((path, dict(element.attrib), shapes))
                    element.clear()
        except ElementTree.ParseError as error:
            raise DataError(f"{path} is not valid XML: {error}.") from None
    used = [shape["label"] for _, _, shapes in images for shape in shapes if "label" in shape]
    classes, indices = name_classes([*names, *sorted(set(used))])
    source = Source("CVAT for images", classes, [])
    for path, image, shapes in images:
        name, subset = image.get("name", ""), image.get("subset", "")
        folders = (path.parent / "images" / subset, path.parent / "images", path.parent)
        file = next((f / name for f in folders if name and (f / name).is_file()), None)
        if file is None or ".." in Path(name).parts:
            source.skipped["images without a file"] += 1
            continue
        split = find_split([subset, *Path(name).parts[:-1]])
        source.items.append(Item(file, split, partial(_draw, file, shapes, indices), (path,)))
    return source


def _draw(
    image: Path, shapes: list[Shape], indices: dict[str, int], skipped: Counter[str]
) -> np.ndarray:
    canvas = Canvas.for_image(image)
    for shape in sorted(shapes, key=_z_order):
        try:
            is_drawn = _draw_shape(canvas, shape, indices[shape["label"]])
        except (KeyError, ValueError):
            is_drawn = False
        if not is_drawn:
            skipped[f"shapes that cannot be drawn ({shape['kind']})"] += 1
    return canvas.to_mask()


def _z_order(shape: Shape) -> int:
    text = shape.get("z_order", "0")
    return int(text) if text.lstrip("-").isdigit() else 0


def _draw_shape(canvas: Canvas, shape: Shape, index: int) -> bool:
    match shape["kind"]:
        case "polygon":
            points = [[float(v) for v in pair.split(",")] for pair in shape["points"].split(";")]
            if not are_points(points, 3):
                return False
            canvas.draw_polygon(points, index)
        case "box":
            left, top, right, bottom = _read_floats(shape, "xtl", "ytl", "xbr", "ybr")
            corners = [(left, top), (right, top), (right, bottom), (left, bottom)]
            canvas.draw_polygon(_rotate(corners, shape), index)
        case "ellipse":
            x, y, rx, ry = _read_floats(shape, "cx", "cy", "rx", "ry")
            angles = [math.tau * step / 90 for step in range(90)]
            corners = [(x + rx * math.cos(a), y + ry * math.sin(a)) for a in angles]
            canvas.draw_polygon(_rotate(corners, shape), index)
        case "mask":
            return _paste(canvas, shape, index)
        case _:
            return False
    return True


def _read_floats(shape: Shape, *keys: str) -> list[float]:
    values = [float(shape[key]) for key in keys]
    if not all(map(math.isfinite, values)):
        raise ValueError("not finite")
    return values


def _rotate(points: list[tuple[float, float]], shape: Shape) -> list[tuple[float, float]]:
    """Turn points around their centre by the shape's `rotation`, in degrees, clockwise."""
    angle = math.radians(float(shape.get("rotation", 0)))
    x = sum(point[0] for point in points) / len(points)
    y = sum(point[1] for point in points) / len(points)
    cos, sin = math.cos(angle), math.sin(angle)
    return [
        (x + (px - x) * cos - (py - y) * sin, y + (px - x) * sin + (py - y) * cos)
        for px, py in points
    ]


def _paste(canvas: Canvas, shape: Shape, index: int) -> bool:
    """Paste run lengths over the rows of a box; the first run is of zeros."""
    left, top, width, height = (int(float(shape[k])) for k in ("left", "top", "width", "height"))
    runs = [int(run) for run in shape["rle"].split(",")]
    image_width, image_height = canvas.image.size
    is_inside = 0 <= left < left + width <= image_width and 0 <= top < top + height <= image_height
    if not is_inside or min(runs) < 0 or sum(runs) != width * height:
        return False
    values = np.repeat(np.arange(len(runs)) % 2, runs).reshape(height, width)
    canvas.paste(Image.fromarray(values.astype(np.uint8)), (left, top), index)
    return True
