"""Masks as COCO run lengths and GeoJSON polygons."""

from typing import Any

import numpy as np
import numpy.typing as npt

from atrous.classes import Classes
from atrous.extras import import_extra

Indices = npt.NDArray[np.uint8]


def build_coco_annotations(mask: Indices, classes: Classes) -> list[dict[str, Any]]:
    """Return one annotation per class in a mask, in COCO's results format.

    `segmentation` is a compressed run-length encoding for `pycocotools.mask.decode`.

    Shapes:
        mask: uint8 (H, W), class indices; ignored pixels are 255

    Raises:
        ConfigError: pycocotools is not installed.

    Source: Lin et al. 2014, arXiv:1405.0312.
    """
    coco = import_extra("pycocotools.mask", "labels")
    annotations = []
    for index in np.flatnonzero(np.bincount(mask.ravel(), minlength=1)[: len(classes)]).tolist():
        encoded = coco.encode(np.asfortranarray(mask == index))
        annotations.append(
            {
                "category_id": index,
                "category": classes.names[index],
                "area": int(coco.area(encoded)),
                "segmentation": {**encoded, "counts": encoded["counts"].decode("ascii")},
            }
        )
    return annotations


def build_geojson(mask: Indices, classes: Classes) -> dict[str, Any]:
    """Return the connected regions of a mask as polygons with holes.

    Regions are 4-connected. Coordinates are pixel corners, x to the right and y down, from (0, 0)
    at the top left corner of the image to (width, height). Filling the polygons gives the mask;
    ignored pixels lie in no polygon.

    Shapes:
        mask: uint8 (H, W), class indices; ignored pixels are 255

    Raises:
        ConfigError: rasterio is not installed.
    """
    shapes = import_extra("rasterio.features", "geo").shapes
    height, width = mask.shape
    features = []
    for polygon, value in shapes(mask, mask=mask < len(classes), connectivity=4):
        rings = [
            [(int(x), int(y)) for x, y in reversed(ring)]  # RFC 7946: outlines counterclockwise
            for ring in polygon["coordinates"]
        ]
        features.append(
            {
                "type": "Feature",
                "properties": {
                    "class": classes.names[int(value)],
                    "index": int(value),
                    "area_px": round(sum(map(_compute_area, rings))),
                },
                "geometry": {"type": "Polygon", "coordinates": rings},
            }
        )
    frame = {"width": width, "height": height, "x": "right", "y": "down", "unit": "pixel"}
    return {"type": "FeatureCollection", "pixel_frame": frame, "features": features}


def _compute_area(ring: list[tuple[int, int]]) -> float:
    """Return the area inside a closed ring, negative for clockwise rings (holes)."""
    x, y = np.array(ring).T
    return float((x[:-1] * y[1:] - x[1:] * y[:-1]).sum()) / 2
