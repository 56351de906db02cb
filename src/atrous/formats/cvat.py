"""CVAT for images 1.1: one XML file with polygons, boxes, ellipses and masks."""

from collections import Counter
from functools import partial
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from atrous.errors import DataError
from atrous.formats.canvas import Canvas, check_stated_size, outline_box, outline_ellipse, rotate
from atrous.formats.label_files import ImageFiles, has_word
from atrous.formats.source import Item, Source, find_split, name_classes

Shape = dict[str, str]


def find(root: Path) -> list[Path]:
    """Return the XML files of CVAT in a folder."""
    files = [root] if root.suffix == ".xml" else sorted(root.glob("*.xml"))
    return [path for path in files if has_word(path, "<annotations>")]


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
                    images.append((path, {**element.attrib}, shapes))
                    element.clear()
                if element.tag == "track":
                    raise DataError(
                        f"{path} is an export as 'CVAT for video'. Export the task as 'CVAT for "
                        "images 1.1'."
                    )
        except (ElementTree.ParseError, LookupError, ValueError) as error:
            raise DataError(f"{path} is not valid XML: {error}.") from None
    used = {shape["label"] for _, _, shapes in images for shape in shapes if "label" in shape}
    classes, indices = name_classes([*names, *sorted(used)], root)
    source, image_files = Source("CVAT for images", classes, []), ImageFiles(root)
    for path, stated, shapes in images:
        name, subset = stated.get("name", ""), stated.get("subset", "")
        if image := image_files.find(name, "images", subset):
            split = find_split([subset, *Path(name).parts[:-1]])
            load = partial(_draw, image, stated, shapes, indices, path)
            source.items.append(Item(image, split, load, (path,)))
        else:
            source.skipped["images without a file"] += 1
    return source


def _draw(
    image: Path,
    stated: Shape,
    shapes: list[Shape],
    indices: dict[str, int],
    path: Path,
    skipped: Counter[str],
) -> np.ndarray:
    height, width = stated.get("height", ""), stated.get("width", "")
    if height.isdecimal() and width.isdecimal():
        check_stated_size(image, int(height), int(width), path)
    canvas = Canvas.for_image(image)
    for shape in sorted(shapes, key=_z_order):
        try:
            is_drawn = _draw_shape(canvas, shape, indices[shape["label"]])
        except (KeyError, ValueError, OverflowError):
            is_drawn = False
        if not is_drawn:
            skipped[f"shapes that cannot be drawn ({shape['kind']})"] += 1
    return canvas.to_mask()


def _z_order(shape: Shape) -> int:
    try:
        return int(shape.get("z_order", 0))
    except ValueError:
        return 0


def _draw_shape(canvas: Canvas, shape: Shape, index: int) -> bool:
    angle = float(shape.get("rotation", 0))
    match shape["kind"]:
        case "polygon":
            pairs = [pair.split(",") for pair in shape["points"].split(";")]
            return canvas.fill_polygon([(float(x), float(y)) for x, y in pairs], index)
        case "box":
            left, top, right, bottom = (float(shape[key]) for key in ("xtl", "ytl", "xbr", "ybr"))
            corners = outline_box((left, top), (right, bottom))
            center = (left + right) / 2, (top + bottom) / 2
            return canvas.fill_polygon(rotate(corners, center, angle), index)
        case "ellipse":
            x, y, rx, ry = (float(shape[key]) for key in ("cx", "cy", "rx", "ry"))
            corners = rotate(outline_ellipse((x, y), (rx, ry)), (x, y), angle)
            return canvas.fill_polygon(corners, index)
        case "mask":
            return _paste(canvas, shape, index)
        case _:
            return False


def _paste(canvas: Canvas, shape: Shape, index: int) -> bool:
    """Paste run lengths over the rows of a box; the first run is of zeros."""
    left, top, width, height = (int(float(shape[k])) for k in ("left", "top", "width", "height"))
    runs = list(map(int, shape["rle"].split(",")))
    image_width, image_height = canvas.image.size
    is_inside = 0 <= left < left + width <= image_width and 0 <= top < top + height <= image_height
    if not is_inside or min(runs) < 0 or sum(runs) != width * height:
        return False
    region = np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(height, width)
    return canvas.paste(region, (left, top), index)
