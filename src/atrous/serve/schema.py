"""Contents of /openapi.json: parameters, bodies, responses and errors."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from atrous.serve.body import FIELD
from atrous.serve.errors import STATUSES
from atrous.serve.image import FORMATS

WARNING_HEADER = "Atrous-Warning"

Format = Literal["mask", "overlay", "json"]


class SegmentQuery(BaseModel):
    """Parameters of /v1/segment."""

    model_config = ConfigDict(extra="forbid")

    model: str | None = Field(None, description="Name of a model; by default, the first.")
    format: Format | None = Field(None, description="Default: json if Accept names it, else mask.")
    opacity: float = Field(0.5, ge=0, le=1, description="Opacity of the classes in an overlay.")
    confidence: bool = Field(False, description="Include the confidence of each pixel in JSON.")


class ErrorResponse(BaseModel):
    """Every error."""

    error: str = Field(examples=["There is no model 'streets'. Did you mean 'street'?"])


class ClassEntry(BaseModel):
    """A class of a model."""

    index: int = Field(description="Value in masks.", examples=[3])
    name: str = Field(examples=["road"])
    color: str = Field(pattern="^#[0-9a-f]{6}$", examples=["#804080"])


class ModelEntry(BaseModel):
    """A model."""

    name: str = Field(examples=["camvid"])
    default: bool = Field(description="Whether it is used if a request names no model.")
    architecture: str = Field(examples=["deeplabv3plus_resnet18"])
    engine: str = Field(examples=["openvino-int8"])
    precision: str = Field(description="32, bf16 or int8.", examples=["32"])
    classes: list[ClassEntry]


class ImageLimits(BaseModel):
    """Limits of an image."""

    max_body_bytes: int = Field(description="Maximum size of the file.")
    max_pixels: int


class ModelsResponse(BaseModel):
    """All models, and the limits of an image."""

    models: list[ModelEntry]
    limits: ImageLimits


class ClassShare(ClassEntry):
    """A class and its share of the image."""

    share: float = Field(ge=0, le=1, description="Share of all pixels.", examples=[0.312])


class RunLengths(BaseModel):
    """COCO's compressed run-length encoding, for `pycocotools.mask.decode`."""

    size: tuple[int, int] = Field(description="Height and width.", examples=[[2, 4]])
    counts: str = Field(examples=["026"])


class Annotation(BaseModel):
    """The region of a class in the image."""

    category_id: int
    category: str
    area: int = Field(description="Number of pixels.")
    segmentation: RunLengths


class SegmentResponse(BaseModel):
    """The result as JSON."""

    model: str
    engine: str
    precision: str
    width: int
    height: int
    classes: list[ClassShare]
    annotations: list[Annotation]
    confidence: str | None = Field(
        None, description="Probability of each pixel's class, 255 for 1, as a PNG in base64."
    )


class StateResponse(BaseModel):
    """State of the server."""

    state: str = Field(description="loading, ready or stopping.", examples=["ready"])


_RETRY_AFTER = {
    "Retry-After": {
        "description": "Seconds after which to try again.",
        "schema": {"type": "integer", "minimum": 1},
        "required": True,
    }
}

ERRORS: dict[int | str, dict[str, Any]] = {
    status: {
        "model": ErrorResponse,
        "description": meaning,
        "headers": _RETRY_AFTER if status in (429, 503) else {},
    }
    for status, meaning in STATUSES.items()
}
"""The `responses` of all routes of the API."""

_BINARY = {"type": "string", "format": "binary"}

SEGMENT_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "description": "An image file. Its format is detected from its content alone.",
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "properties": {FIELD: _BINARY},
                    "required": [FIELD],
                    "additionalProperties": False,
                }
            },
            **{f"image/{name.lower()}": {"schema": _BINARY} for name in FORMATS},
        },
    }
}

SEGMENT_RESPONSE: dict[str, Any] = {
    "model": SegmentResponse,
    "description": "The mask as a palette PNG of class indices, the overlay as a PNG, or JSON.",
    "headers": {
        WARNING_HEADER: {
            "description": "Ignored parts of the file, such as pages after the first.",
            "schema": {"type": "string"},
        }
    },
    "content": {"image/png": {"schema": _BINARY}},
}
