"""Results of requests: masks, overlays and JSON."""

import base64
from io import BytesIO
from typing import Any

from PIL import Image
from starlette.responses import Response
from torch import Tensor

from atrous.classes import Classes
from atrous.data.palettes import format_color
from atrous.engines import Engine
from atrous.images.pixels import convert_to_rgb
from atrous.prediction import Prediction
from atrous.prediction.annotations import build_coco_annotations
from atrous.prediction.outputs import compute_shares
from atrous.prediction.render import write_mask, write_overlay
from atrous.serve.schema import Format, SegmentResponse


def build_response(
    format: Format, name: str, engine: Engine, opacity: float, image: Tensor, prediction: Prediction
) -> Response:
    """Return the response of /v1/segment; `name` is that of the model.

    Shapes:
        image: uint8 (3, H, W), or float32 (bands, H, W)
        prediction: mask (H, W) and, for JSON only, confidence (H, W)
    """
    file, media_type = BytesIO(), "image/png"
    if format == "json":
        text = describe_prediction(prediction, name, engine).model_dump_json(exclude_none=True)
        file, media_type = BytesIO(text.encode()), "application/json"
    elif format == "mask":
        write_mask(file, prediction.mask, engine.classes)
    else:
        shown = convert_to_rgb(image, engine.card.ranges)
        write_overlay(file, shown, prediction.mask, engine.classes, opacity=opacity, format="PNG")
    return Response(file.getvalue(), headers={"Cache-Control": "no-store"}, media_type=media_type)


def describe_prediction(prediction: Prediction, name: str, engine: Engine) -> SegmentResponse:
    """Return the result as JSON holds it."""
    mask, classes = prediction.mask, describe_classes(engine.classes)
    shares = compute_shares(mask, len(classes))
    result = {
        "model": name,
        "engine": engine.name,
        "precision": engine.precision,
        "width": mask.shape[1],
        "height": mask.shape[0],
        "classes": [
            {**one, "share": round(share, 6)} for one, share in zip(classes, shares, strict=False)
        ],
        "annotations": build_coco_annotations(mask.numpy(), engine.classes),
    }
    if prediction.confidence is not None:
        file = BytesIO()
        confidence = Image.fromarray(prediction.confidence.numpy())
        confidence.save(file, format="PNG", compress_level=1)
        result["confidence"] = base64.b64encode(file.getvalue())
    return SegmentResponse.model_validate(result)


def describe_classes(classes: Classes) -> list[dict[str, Any]]:
    """Return the fields of `ClassEntry` of each class."""
    return [
        {"index": index, "name": name, "color": format_color(color)}
        for index, (name, color) in enumerate(zip(classes.names, classes.colors, strict=True))
    ]
