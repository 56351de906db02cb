"""Results of requests: masks, overlays and JSON."""

import base64
import json
from io import BytesIO
from typing import Any, Literal

from PIL import Image
from torch import Tensor

from atrous.classes import Classes
from atrous.data.pixels import convert_to_rgb
from atrous.engines import Engine
from atrous.prediction import Prediction
from atrous.prediction.annotations import build_coco_annotations
from atrous.prediction.outputs import compute_shares
from atrous.prediction.render import write_mask, write_overlay

Format = Literal["mask", "overlay", "json"]

MEDIA_TYPES: dict[Format, str] = {
    "mask": "image/png",
    "overlay": "image/png",
    "json": "application/json",
}


def choose_format(format: Format | None, accept: str) -> Format:
    """Return the format of the parameter, else JSON if the Accept header names it, else `mask`."""
    return format or ("json" if MEDIA_TYPES["json"] in accept else "mask")


def encode_result(
    format: Format, image: Tensor, prediction: Prediction, name: str, engine: Engine, opacity: float
) -> bytes:
    """Return the body of a response.

    Args:
        format: The requested format.
        image: uint8 (3, H, W), or float32 (bands, H, W).
        prediction: Mask (H, W) and, for JSON only, confidence (H, W).
        name: Name of the model.
        engine: Its engine.
        opacity: Opacity of the class colours in an overlay, 0 to 1.
    """
    if format == "json":
        described = describe_prediction(prediction, name, engine)
        encoder = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))
        # In pieces, between which other threads run: run lengths can be 20 MB.
        return b"".join(piece.encode() for piece in encoder.iterencode(described))
    file = BytesIO()
    if format == "mask":
        write_mask(file, prediction.mask, engine.classes)
    else:
        shown = convert_to_rgb(image, engine.card.ranges)
        write_overlay(file, shown, prediction.mask, engine.classes, opacity=opacity, format="PNG")
    return file.getvalue()


def describe_prediction(prediction: Prediction, name: str, engine: Engine) -> dict[str, Any]:
    """Return the fields of `SegmentResponse`."""
    mask, classes = prediction.mask, engine.classes
    shares = compute_shares(mask, len(classes))
    result = {
        "model": name,
        "engine": engine.name,
        "precision": engine.precision,
        "width": mask.shape[1],
        "height": mask.shape[0],
        "classes": [
            {**one, "share": round(share, 6)}
            for one, share in zip(describe_classes(classes), shares, strict=False)
        ],
        "annotations": build_coco_annotations(mask.numpy(), classes),
    }
    if prediction.confidence is not None:
        file = BytesIO()
        confidence = Image.fromarray(prediction.confidence.numpy())
        confidence.save(file, format="PNG", compress_level=1)
        result["confidence"] = base64.b64encode(file.getvalue()).decode()
    return result


def describe_classes(classes: Classes) -> list[dict[str, Any]]:
    """Return index, name and colour of each class."""
    return [
        {"index": index, "name": name, "color": "#{:02x}{:02x}{:02x}".format(*color)}
        for index, (name, color) in enumerate(zip(classes.names, classes.colors, strict=True))
    ]
