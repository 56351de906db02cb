"""Predictions as labels for annotation tools: COCO, CVAT, LabelMe, YOLO.

Every class but `background` is labelled, in regions of at least `MIN_REGION_PX` pixels. COCO and
CVAT hold all images in one file; each image first gets a part of it, which waits for its ids.
"""

import json
from collections.abc import Iterator, Sequence
from typing import BinaryIO
from xml.sax.saxutils import escape, quoteattr

import numpy as np
import numpy.typing as npt

from atrous.classes import Classes
from atrous.formats.source import BACKGROUND
from atrous.parsing import escape_controls
from atrous.prediction import regions
from atrous.prediction.annotations import write_json
from atrous.prediction.manifest import FinishedImage
from atrous.prediction.prediction import SegmentedImage


def write_coco_part(file: BinaryIO, segmented: SegmentedImage, classes: Classes) -> None:
    """Write the annotations of an image, one per line: exact run lengths of each region."""
    height, width = segmented.labels.shape
    indices = _list_indices(classes)
    for index, left, top, pixels in regions.find_regions(segmented.labels, indices):
        columns = np.zeros((height, pixels.shape[1]), bool)
        columns[top : top + len(pixels)] = pixels
        runs = _compute_runs(columns.ravel(order="F"))
        runs[0] += left * height
        runs += [0] * (len(runs) % 2 == 0)
        runs[-1] += height * width - sum(runs)
        annotation = {
            "category_id": 1 + indices.index(index),
            "iscrowd": 0,
            "area": int(pixels.sum()),
            "bbox": [left, top, pixels.shape[1], len(pixels)],
            "segmentation": {"size": [height, width], "counts": runs},
        }
        write_json(file, annotation)


def write_coco(file: BinaryIO, images: Sequence[FinishedImage], classes: Classes) -> None:
    """Write one COCO file of all images; ids count from 1.

    Source: Lin et al. 2014, arXiv:1405.0312.
    """
    rows = [
        {"id": number, "file_name": source.name, "height": record.height, "width": record.width}
        for number, (source, record, _) in enumerate(images, start=1)
    ]
    categories = [
        {"id": number, "name": classes.names[index], "supercategory": ""}
        for number, index in enumerate(_list_indices(classes), start=1)
    ]
    file.write(b'{"images":')
    write_json(file, rows)
    file.write(b',"categories":')
    write_json(file, categories)
    file.write(b',"annotations":[')
    num_annotations = 0
    for number, image in enumerate(images, start=1):
        for line in image.files[0].read_bytes().splitlines():
            file.write(b",\n" if num_annotations else b"\n")
            num_annotations += 1
            file.write(b'{"id":%d,"image_id":%d,%s' % (num_annotations, number, line[1:]))
    file.write(b"]}\n")


def write_cvat_part(file: BinaryIO, segmented: SegmentedImage, classes: Classes) -> None:
    """Write the element of an image without its start and id: exact run lengths of each region."""
    height, width = segmented.labels.shape
    _write(file, f' name={_quote(segmented.name)} width="{width}" height="{height}">\n')
    for index, left, top, pixels in regions.find_regions(segmented.labels, _list_indices(classes)):
        runs = ", ".join(map(str, _compute_runs(pixels.ravel())))
        _write(
            file,
            f'<mask label={_quote(classes.names[index])} source="auto" occluded="0" rle="{runs}" '
            f'left="{left}" top="{top}" width="{pixels.shape[1]}" height="{len(pixels)}" '
            'z_order="0"></mask>\n',
        )
    _write(file, "</image>\n")


def write_cvat(file: BinaryIO, images: Sequence[FinishedImage], classes: Classes) -> None:
    """Write one file "CVAT for images 1.1" of all images."""
    _write(file, '<?xml version="1.0" encoding="utf-8"?>\n<annotations>\n<version>1.1</version>\n')
    _write(file, "<meta><task><labels>\n")
    for index in _list_indices(classes):
        name, color = escape(escape_controls(classes.names[index])), bytes(classes.colors[index])
        _write(file, f"<label><name>{name}</name><color>#{color.hex()}</color></label>\n")
    _write(file, "</labels></task></meta>\n")
    for number, image in enumerate(images):
        file.write(b'<image id="%d"' % number + image.files[0].read_bytes())
    _write(file, "</annotations>\n")


def write_labelme(file: BinaryIO, segmented: SegmentedImage, classes: Classes) -> None:
    """Write the JSON file of an image, with one polygon per region."""
    height, width = segmented.labels.shape
    shapes = [
        {
            "label": classes.names[index],
            "points": points.tolist(),
            "shape_type": "polygon",
            "group_id": None,
            "flags": {},
        }
        for index, points in _list_polygons(segmented, classes)
    ]
    content = {"version": "5.5.0", "flags": {}, "shapes": shapes, "imagePath": segmented.link}
    write_json(file, content | {"imageData": None, "imageHeight": height, "imageWidth": width})


def write_labelme_names(file: BinaryIO, _: Sequence[FinishedImage], classes: Classes) -> None:
    """Write the class names for `labelme --labels`."""
    names = [classes.names[index] for index in _list_indices(classes)]
    _write(file, "\n".join(["__ignore__", "_background_", *names, ""]))


def write_yolo(file: BinaryIO, segmented: SegmentedImage, classes: Classes) -> None:
    """Write the text file of an image, one line per region: class and normalised polygon."""
    indices, size_wh = _list_indices(classes), segmented.labels.shape[::-1]
    for index, points in _list_polygons(segmented, classes):
        values = " ".join(f"{value:.6g}" for value in (points / size_wh).ravel())
        _write(file, f"{indices.index(index)} {values}\n")


def write_yolo_names(file: BinaryIO, _: Sequence[FinishedImage], classes: Classes) -> None:
    """Write `data.yaml`, for a folder `images` beside `labels`."""
    names = [classes.names[index] for index in _list_indices(classes)]
    # A list of strings in JSON is one in YAML too.
    _write(file, f"train: images\nval: images\nnames: {json.dumps(names, ensure_ascii=False)}\n")


def _list_indices(classes: Classes) -> list[int]:
    return [index for index, name in enumerate(classes.names) if name.lower() != BACKGROUND]


def _list_polygons(
    segmented: SegmentedImage, classes: Classes
) -> Iterator[tuple[int, regions.Points]]:
    """Yield the simplified polygons, the largest region first, since later ones lie on top."""
    is_labelled = np.isin(segmented.labels, _list_indices(classes))
    traced = regions.trace_regions(segmented.labels, is_labelled)
    for index, rings in sorted(traced, key=lambda region: -regions.compute_area(region[1])):
        yield index, regions.simplify_region(rings)


def _compute_runs(flat: npt.NDArray[np.bool_]) -> list[int]:
    """Return the lengths of alternating runs of False and True; the first one may be 0."""
    changes = np.flatnonzero(np.diff(flat, prepend=False))
    runs: list[int] = np.diff(changes, prepend=0, append=flat.size).tolist()
    return runs


def _quote(name: str) -> str:
    return quoteattr(escape_controls(name))


def _write(file: BinaryIO, text: str) -> None:
    file.write(text.encode(errors="backslashreplace"))
