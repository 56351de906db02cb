"""Masks as COCO run lengths and GeoJSON polygons."""

import json
from typing import Any, BinaryIO

import numpy as np

from atrous.classes import Classes
from atrous.extras import import_extra
from atrous.prediction.regions import Indices, Ring, compute_area, trace_regions


def build_coco_annotations(mask: Indices, classes: Classes) -> list[dict[str, Any]]:
    """Return one annotation per class in a mask, in COCO's results format.

    `segmentation` is a compressed run-length encoding for `pycocotools.mask.decode`.

    Shapes:
        mask: uint8 (H, W), class indices; ignored pixels are 255

    Source: Lin et al. 2014, arXiv:1405.0312.
    """
    coco = import_extra("pycocotools.mask", "labels")
    annotations = []
    areas = np.bincount(mask.ravel(), minlength=len(classes))[: len(classes)]
    for index in np.flatnonzero(areas).tolist():
        encoded = coco.encode(np.asfortranarray(mask == index))
        annotations.append(
            {
                "category_id": index,
                "category": classes.names[index],
                "area": int(areas[index]),
                "segmentation": {**encoded, "counts": encoded["counts"].decode("ascii")},
            }
        )
    return annotations


def build_geojson(
    mask: Any, classes: Classes, transform: Any = None, crs: Any = None
) -> dict[str, Any]:
    """Return the connected regions of a mask as polygons with holes.

    Coordinates are pixel corners, x to the right and y down, from (0, 0) at the top left corner of
    the image to (width, height); or, with a transform, those of the CRS. Filling the polygons gives
    the mask; ignored pixels lie in no polygon.

    Args:
        mask: uint8 (H, W), class indices; ignored pixels are 255. With a transform, a band of a
            dataset of rasterio.
        transform: Affine transform of this dataset, from pixels to coordinates.
        crs: Coordinate reference system of rasterio, written as the member `crs`.
    """
    place: dict[str, Any] = {}
    if crs is not None:  # as GDAL and QGIS read it, from the GeoJSON of 2008
        authority = crs.to_authority()
        name = "urn:ogc:def:crs:{}::{}".format(*authority) if authority else crs.to_wkt()
        place = {"crs": {"type": "name", "properties": {"name": name}}}
    if transform is None:
        size = {"width": mask.shape[1], "height": mask.shape[0]}
        place = {"pixel_frame": size | {"x": "right", "y": "down", "unit": "pixel"}}
    features = [
        {
            "type": "Feature",
            "properties": {
                "class": classes.names[index],
                "index": index,
                "area_px": compute_area(rings),
            },
            "geometry": {"type": "Polygon", "coordinates": _place(rings, transform)},
        }
        for index, rings in trace_regions(mask, transform=transform)
        if index < len(classes)
    ]
    return {"type": "FeatureCollection", **place, "features": features}


def write_rle(file: BinaryIO, source: str, mask: Indices, classes: Classes) -> None:
    """Write the annotations of a mask with the name and size of its image."""
    height, width = mask.shape
    content = {"image": source, "height": height, "width": width}
    write_json(file, content | {"annotations": build_coco_annotations(mask, classes)})


def write_json(file: BinaryIO, content: Any) -> None:
    """Write a value as one line of JSON."""
    text = json.dumps(content, ensure_ascii=False, separators=(",", ":")) + "\n"
    file.write(text.encode(errors="backslashreplace"))  # names may not be UTF-8


def _place(rings: list[Ring], transform: Any) -> list[Any]:
    """Return rings of pixel corners in the coordinates of a transform, if there is one."""
    if transform is None:
        return rings
    step = -1 if transform.determinant < 0 else 1  # north up, which mirrors the rings
    return [[transform @ point for point in ring[::step]] for ring in rings]
