"""The values of a plan and an evaluation that are read from a run folder, for validation."""

from typing import Annotated, Any

from pydantic import BaseModel, Field

_Share = Annotated[float, Field(ge=0, le=1)]


class PlanValues(BaseModel):
    """Values of `plan.json`."""

    val_fingerprint: str | None = None
    num_train: int | None = None
    steps_per_epoch: Annotated[float, Field(gt=0)] | None = None
    total_steps: int | None = None


class _ClassScores(BaseModel):
    name: str
    pixels: int
    iou: _Share | None
    precision: _Share | None
    recall: _Share | None
    f1: _Share | None


class _Bin(BaseModel):
    low: _Share
    high: _Share
    pixels: int
    confidence: float | None
    accuracy: float | None


class _RiskPoint(BaseModel):
    coverage: float
    miou: float | None = None
    pixel_accuracy: float | None = None


class _Confidence(BaseModel):
    ece: float | None = None
    temperature: Annotated[float, Field(gt=0)] | None = None
    bins: list[_Bin] | None = None
    risk_coverage: list[_RiskPoint] | None = None


class _Convention(BaseModel):
    key: str
    rule: str
    reported_by: str
    iou: float | None = None
    precision: float | None = None
    recall: float | None = None
    f1: float | None = None


class _Trimap(BaseModel):
    width_px: float
    miou: float | None


class _Boundary(BaseModel):
    boundary_iou: float | None = None
    boundary_iou_per_class: list[float | None] | None = None
    dilation_ratio: float | None = None
    bf_score: float | None = None
    bf_tolerance_ratio: float | None = None
    trimap: list[_Trimap] | None = None


class _Objects(BaseModel):
    area: str
    num_objects: int
    recall: float | None
    found: float | None


class _Training(BaseModel):
    step: int | None = None


class ScoreValues(BaseModel):
    """Values of `evaluation/SPLIT.json`."""

    miou: float
    pixel_accuracy: float
    per_class: Annotated[list[_ClassScores], Field(min_length=1)]
    num_images: int
    split: str
    data: str
    mean_class_accuracy: float | None = None
    confusion: list[list[float]] | None = None
    confidence: _Confidence | None = None
    risk_coverage: list[_RiskPoint] | None = None
    conventions: list[_Convention] | None = None
    boundary: _Boundary | None = None
    objects: list[_Objects] | None = None
    absent: list[str] | None = None
    training: _Training | None = None
    tta: dict[str, Any] | None = None
    data_fingerprint: str | None = None
    output_stride: int | None = None
    seconds: float | None = None
    device: str | None = None
