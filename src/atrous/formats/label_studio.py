"""Label Studio: the JSON or JSON-MIN export of a project, with its images in the same folder."""

import re
from collections import Counter
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Annotated, Any
from urllib.parse import parse_qs, unquote

import numpy as np
from pydantic import AliasChoices, Field, FiniteFloat

from atrous.errors import DataError
from atrous.formats.brush import decode_brush
from atrous.formats.canvas import Canvas, Points, outline_box, outline_ellipse, rotate
from atrous.formats.label_files import Entry, ImageFiles, has_word, read_json
from atrous.formats.source import SUFFIXES, Item, Source, name_classes

_LABELS = {"polygonlabels", "brushlabels", "rectanglelabels", "ellipselabels", "labels"}
_SHAPES = {"points", "rle", "width", "radiusX"}
_INVALID = "regions without a label or with invalid values"
_UPLOAD_PREFIX = re.compile(r"[0-9a-f]{8}-(?=[^/]*$)")


class _Region(Entry):
    labels: list[str] = Field(validation_alias=AliasChoices(*_LABELS), min_length=1)
    points: Points | None = None
    rle: list[Annotated[int, Field(ge=0, le=255)]] | None = None
    x: float = 0
    y: float = 0
    width: float | None = None
    height: float = 0
    radius_x: float | None = Field(None, alias="radiusX")
    radius_y: float = Field(0, alias="radiusY")
    rotation: FiniteFloat = 0
    image_rotation: float = 0


def find(root: Path) -> dict[Path, Any]:
    """Return the JSON files of a folder with their tasks, or else a mask of its PNG export."""
    files = [root] if root.suffix == ".json" else sorted(root.glob("*.json"))
    words = ('"annotations"', '"completions"', '"annotation_id"')
    contents = [(path, read_json(path)) for path in files if has_word(path, *words)]
    found = {path: tasks for path, tasks in contents if isinstance(tasks, list)}
    return found or dict.fromkeys(sorted(root.glob("task-*-annotation-*.png"))[:1])


def read(root: Path, contents: dict[Path, Any]) -> Source:
    """Read the first annotation of each task that is not cancelled.

    Labels become classes in alphabetical order after `background`. Later regions lie on top.
    Regions without an area, without a label, and of rotated images are left out.

    Raises:
        DataError: There are only PNG masks.
    """
    if (first := next(iter(contents))).suffix == ".png":
        raise DataError(
            f"{first} is a brush mask of Label Studio, whose name does not say to which image it "
            "belongs. Export the project as JSON, which holds the same masks, and put it into the "
            "folder of the images."
        )
    skipped, images = Counter[str](), ImageFiles(root)
    regions: dict[Path, tuple[Path, list[_Region]]] = {}
    for path, task in ((path, task) for path, tasks in contents.items() for task in tasks):
        shapes = _list_shapes(task) if isinstance(task, dict) else None
        if shapes is None:
            skipped["tasks without an annotation"] += 1
        elif (image := _find_image(images, task)) is None:
            skipped["tasks without an image"] += 1
        elif image in regions:
            skipped["tasks or annotations of an image that has one already"] += 1
        else:
            regions[image] = path, _Region.parse_list(shapes, skipped, _INVALID)
    labels = sorted({one.labels[0] for _, found in regions.values() for one in found})
    classes, indices = name_classes(labels, root)
    source = Source("Label Studio", classes, [], skipped)
    for image, (path, found) in regions.items():
        load = partial(_draw, image, found, indices)
        source.items.append(Item(image, images.find_split(image), load, (path,)))
    return source


def _list_shapes(task: dict[str, Any]) -> list[dict[str, Any]] | None:
    """Return the shapes of a task, one of each id; None if nobody has annotated it."""
    if "annotation_id" in task:  # JSON-MIN
        rows = [row for value in task.values() for row in _list_dicts(value)]
    else:
        annotations = _list_dicts(task.get("annotations", task.get("completions")))
        valid = [a for a in annotations if not a.get("was_cancelled") and not a.get("skipped")]
        if not valid or not isinstance(valid[0].get("result"), list):
            return None
        rows = _list_dicts(valid[0]["result"])
    values = [(row, row.get("value", row)) for row in rows]
    shapes = [{**r, **v} for r, v in values if isinstance(v, dict) and v.keys() & _SHAPES]
    shapes.sort(key=lambda shape: not shape.keys() & _LABELS)
    # Shapes without a label repeat those of the same id, to add a text or a choice.
    by_id: dict[str, dict[str, Any]] = {}
    for number, shape in enumerate(shapes):
        by_id.setdefault(str(shape.get("id", number)), shape)
    return list(by_id.values())


def _list_dicts(values: Any) -> list[dict[str, Any]]:
    return [one for one in values if isinstance(one, dict)] if isinstance(values, list) else []


def _find_image(images: ImageFiles, task: dict[str, Any]) -> Path | None:
    """Return the image that an upload, a URL or a path of a local or remote file names."""
    data = task["data"] if isinstance(task.get("data"), dict) else task
    for text in (task.get("file_upload"), *data.values()):
        place, _, query = (text if isinstance(text, str) else "").partition("?")
        path = parse_qs(query).get("d", [unquote(place)])[0]
        found = images.find(path) or images.find(_UPLOAD_PREFIX.sub("", path))
        if found and PurePosixPath(path).suffix.lower() in SUFFIXES:
            return found
    return None


def _draw(
    image: Path, regions: list[_Region], indices: dict[str, int], skipped: Counter[str]
) -> np.ndarray:
    canvas = Canvas.for_image(image)
    for region in regions:
        index = indices[region.labels[0]]
        if region.image_rotation or not _draw_region(canvas, region, index):
            skipped["regions that cannot be drawn"] += 1
    return canvas.to_mask()


def _draw_region(canvas: Canvas, region: _Region, index: int) -> bool:
    width, height = canvas.image.size
    if region.rle is not None:
        alpha = decode_brush(bytes(region.rle), width * height)
        return alpha is not None and canvas.paste(alpha.reshape(height, width), (0, 0), index)
    x, y, points = region.x, region.y, region.points or []
    if region.radius_x is not None:
        points = outline_ellipse((x, y), (region.radius_x, region.radius_y))
    elif region.width is not None:
        points = outline_box((x, y), (x + region.width, y + region.height))
    in_pixels = [(x / 100 * width, y / 100 * height) for x, y in [(x, y), *points]]
    return canvas.fill_polygon(rotate(in_pixels[1:], in_pixels[0], region.rotation), index)
