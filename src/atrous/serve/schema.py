"""What /openapi.json says beside the signatures: bodies, examples, errors."""

from typing import Any

from pydantic import BaseModel, Field

from atrous.serve.body import FIELD
from atrous.serve.image import FORMATS


class ErrorAnswer(BaseModel):
    """What every error looks like."""

    error: str = Field(examples=["There is no model 'streets'. Did you mean 'street'?"])


class ClassAnswer(BaseModel):
    """A class of a model."""

    index: int = Field(description="Value in masks.", examples=[3])
    name: str = Field(examples=["road"])
    color: str = Field(pattern="^#[0-9a-f]{6}$", examples=["#804080"])


class ModelAnswer(BaseModel):
    """A model that is served."""

    name: str = Field(examples=["camvid"])
    default: bool = Field(description="Whether it is taken where none is named.")
    architecture: str = Field(examples=["deeplabv3plus_resnet18"])
    engine: str = Field(examples=["openvino-int8"])
    precision: str = Field(description="32, bf16 or int8.", examples=["32"])
    classes: list[ClassAnswer]


class LimitsAnswer(BaseModel):
    """The largest image."""

    max_body_bytes: int = Field(description="Size of its file.")
    max_pixels: int


class ModelsAnswer(BaseModel):
    """All models that are served, and the largest image that they take."""

    models: list[ModelAnswer]
    limits: LimitsAnswer


class ShareAnswer(ClassAnswer):
    """A class and how much of the image it covers."""

    share: float = Field(ge=0, le=1, description="Of all pixels.", examples=[0.312])


class RunLengths(BaseModel):
    """COCO's compressed run lengths; `pycocotools.mask.decode` takes them."""

    size: list[int] = Field(min_length=2, max_length=2, description="Height and width.")
    counts: str


class Annotation(BaseModel):
    """The region of a class that is in the image."""

    category_id: int
    category: str
    area: int = Field(description="In pixels.")
    segmentation: RunLengths


class SegmentedAnswer(BaseModel):
    """The mask in numbers."""

    model: str
    engine: str
    precision: str
    width: int
    height: int
    classes: list[ShareAnswer]
    annotations: list[Annotation]
    confidence: str | None = Field(
        default=None,
        description="With confidence=true, and of an engine that gives it: a PNG in base64, the "
        "probability of each pixel's class as 0 to 255.",
    )


class StateAnswer(BaseModel):
    """How the server is."""

    state: str = Field(description="loading, ready or stopping.", examples=["ready"])


_RETRY_AFTER = {
    "Retry-After": {
        "description": "Seconds after which to try again.",
        "schema": {"type": "integer", "minimum": 1},
        "required": True,
    }
}

_ERRORS = {
    400: "There is no image in the request, or the multipart body is broken.",
    401: "The token is missing or wrong.",
    404: "There is no such path or model.",
    405: "The path does not take this method.",
    406: "The header Accept admits neither image/png nor application/json.",
    408: "The body did not arrive in time.",
    413: "The body or the image is larger than is taken.",
    415: "The body is no image of a format that is read.",
    422: "A parameter or field cannot be used, or the image is damaged.",
    429: "Too many images are waiting, or they fill the memory.",
    500: "The server failed; its log says how.",
    503: "The models are being loaded, the server is being stopped, or has too many connections.",
    504: "The answer was not there in time.",
}


def describe_errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return the `responses` of a route that can end in these statuses."""
    responses: dict[int | str, dict[str, Any]] = {}
    for status in statuses:
        responses[status] = {"model": ErrorAnswer, "description": _ERRORS[status]}
        if status in (429, 503):
            responses[status]["headers"] = _RETRY_AFTER
    return responses


WARNING_HEADER = "Atrous-Warning"
"""The header of an answer that says what of the file was not used."""

_BINARY = {"type": "string", "format": "binary"}

SEGMENT_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "description": "A PNG, JPEG, WebP, BMP or TIFF file. What counts is its content: with any "
        "other Content-Type it is read all the same.",
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "properties": {FIELD: _BINARY},
                    "required": [FIELD],
                    "additionalProperties": False,
                }
            },
            **{media_type: {"schema": _BINARY} for media_type in FORMATS.values()},
        },
    }
}

SEGMENT_ANSWER: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The mask as a palette PNG of class indices, the overlay as a PNG, or the "
        "mask in numbers.",
        "headers": {
            WARNING_HEADER: {
                "description": "What of the file was not used: pages after the first, a damaged "
                "EXIF block.",
                "schema": {"type": "string"},
            }
        },
        "content": {
            "image/png": {"schema": _BINARY},
            "application/json": {
                "schema": {"$ref": "#/components/schemas/SegmentedAnswer"},
                "example": {
                    "model": "camvid",
                    "engine": "torch",
                    "precision": "32",
                    "width": 4,
                    "height": 2,
                    "classes": [
                        {"index": 0, "name": "sky", "color": "#808080", "share": 0.25},
                        {"index": 1, "name": "road", "color": "#804080", "share": 0.75},
                    ],
                    "annotations": [
                        {
                            "category_id": 0,
                            "category": "sky",
                            "area": 2,
                            "segmentation": {"size": [2, 4], "counts": "026"},
                        },
                        {
                            "category_id": 1,
                            "category": "road",
                            "area": 6,
                            "segmentation": {"size": [2, 4], "counts": "26"},
                        },
                    ],
                },
            },
        },
    }
}
