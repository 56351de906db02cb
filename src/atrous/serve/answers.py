"""What a request can ask for, and how a mask becomes it."""

import base64
import json
from io import BytesIO
from typing import Any, Literal

import torch
from PIL import Image
from torch import Tensor

from atrous.classes import Classes
from atrous.engines import Engine
from atrous.prediction.annotations import build_coco_annotations
from atrous.prediction.outputs import compute_shares
from atrous.prediction.render import write_mask, write_overlay
from atrous.serve.refusals import NotAcceptableError
from atrous.serve.service import Segmentation

Kind = Literal["mask", "overlay", "json"]

MEDIA_TYPES: dict[Kind, str] = {
    "mask": "image/png",
    "overlay": "image/png",
    "json": "application/json",
}


def choose_kind(format: Kind | None, accept: str | None) -> Kind:
    """Return what is asked for: the parameter decides, else the header Accept, else a mask.

    Raises:
        NotAcceptableError: The header admits neither PNG nor JSON.
    """
    if format is not None:
        return format
    shares = _parse_accept(accept or "*/*")
    kinds: tuple[Kind, ...] = ("mask", "json")
    best = max(kinds, key=lambda kind: _weigh(MEDIA_TYPES[kind], shares))
    if _weigh(MEDIA_TYPES[best], shares) <= 0:
        raise NotAcceptableError(
            "The answer is image/png or application/json, and the header Accept admits neither."
        )
    return best


def build_answer(
    kind: Kind,
    image: Tensor,
    segmented: Segmentation,
    name: str,
    engine: Engine,
    opacity: float,
) -> bytes:
    """Return the body of an answer.

    Args:
        kind: What is asked for.
        image: uint8 (3, H, W).
        segmented: What the model said.
        name: What the model is called.
        engine: What ran it.
        opacity: Of the overlay, 0 to 1.
    """
    if kind == "json":
        return json.dumps(
            describe_mask(segmented, name, engine), ensure_ascii=False, separators=(",", ":")
        ).encode()
    file, mask = BytesIO(), torch.from_numpy(segmented.mask)
    if kind == "mask":
        write_mask(file, mask, engine.classes)
    else:
        write_overlay(file, image, mask, engine.classes, opacity=opacity, format="PNG")
    return file.getvalue()


def describe_mask(segmented: Segmentation, name: str, engine: Engine) -> dict[str, Any]:
    """Return what JSON says of a mask: size, share of each class, run lengths, confidence."""
    mask, classes = segmented.mask, engine.classes
    shares = compute_shares(torch.from_numpy(mask), len(classes))
    described = describe_classes(classes)
    for one, share in zip(described, shares, strict=False):
        one["share"] = round(share, 6)
    answer = {
        "model": name,
        "engine": engine.name,
        "precision": engine.precision,
        "width": mask.shape[1],
        "height": mask.shape[0],
        "classes": described,
        "annotations": build_coco_annotations(mask, classes),
    }
    if segmented.confidence is not None:
        file = BytesIO()
        Image.fromarray(segmented.confidence).save(file, format="PNG", compress_level=1)
        answer["confidence"] = base64.b64encode(file.getvalue()).decode()
    return answer


def describe_classes(classes: Classes) -> list[dict[str, Any]]:
    """Return index, name and colour of each class."""
    return [
        {"index": index, "name": name, "color": "#{:02x}{:02x}{:02x}".format(*color)}
        for index, (name, color) in enumerate(zip(classes.names, classes.colors, strict=True))
    ]


def _parse_accept(header: str) -> dict[str, float]:
    """Return the weight of each media range; what cannot be read is left out."""
    weights = {}
    for part in header.split(","):
        media_type, *parameters = (piece.strip().lower() for piece in part.split(";"))
        weight = 1.0
        for parameter in parameters:
            if parameter.startswith("q="):
                try:
                    weight = float(parameter[2:])
                except ValueError:
                    weight = 0.0
        weights[media_type] = weight
    return weights


def _weigh(media_type: str, weights: dict[str, float]) -> float:
    for media_range in (media_type, f"{media_type.partition('/')[0]}/*", "*/*"):
        if media_range in weights:
            return weights[media_range]
    return 0.0
