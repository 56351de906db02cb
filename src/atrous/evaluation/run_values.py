"""The values of a plan and an evaluation that are read from a run folder, for validation."""

from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, Field

from atrous.engines import TTA
from atrous.errors import ConfigError
from atrous.evaluation.boundary import BoundaryScores
from atrous.evaluation.confidence import ConfidenceScores
from atrous.evaluation.conventions import Convention
from atrous.evaluation.metrics import ClassScore
from atrous.evaluation.objects import ObjectScore


def _check_tta(values: dict[str, Any]) -> dict[str, Any]:
    try:
        TTA.from_json(values)
    except (TypeError, ConfigError) as error:
        raise ValueError(str(error)) from None
    return values


_TtaValues = Annotated[dict[str, Any], AfterValidator(_check_tta)]


class PlanValues(BaseModel):
    """Values of `plan.json`."""

    val_fingerprint: str | None = None
    num_train: int | None = None
    steps_per_epoch: Annotated[float, Field(gt=0)] | None = None
    total_steps: int | None = None


class _Training(BaseModel):
    step: int | None = None


class _NamedClass(BaseModel):
    name: str


class ComparedValues(BaseModel):
    """Values of `evaluation/SPLIT.json` that a comparison needs."""

    miou: float
    per_class: Annotated[list[_NamedClass], Field(min_length=1)]
    data: str
    data_fingerprint: str
    convention: str
    model: str
    output_stride: int | None
    precision: str
    tta: _TtaValues


class ScoreValues(BaseModel):
    """Values of `evaluation/SPLIT.json` that a report shows."""

    miou: float
    pixel_accuracy: float
    per_class: Annotated[list[ClassScore], Field(min_length=1)]
    num_images: int
    split: str
    data: str
    mean_class_accuracy: float | None = None
    confusion: list[list[float]] | None = None
    confidence: ConfidenceScores | None = None
    conventions: list[Convention] | None = None
    boundary: BoundaryScores | None = None
    objects: list[ObjectScore] | None = None
    absent: list[str] | None = None
    training: _Training | None = None
    tta: _TtaValues | None = None
    data_fingerprint: str | None = None
    output_stride: int | None = None
    seconds: float | None = None
    device: str | None = None
