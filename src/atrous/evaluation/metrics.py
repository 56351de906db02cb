"""Scores as pure functions of counts."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from atrous.classes import Classes
from atrous.errors import DataError
from atrous.evaluation.counts import CountArray, Counts, compute_tp_fp_fn

FloatArray = npt.NDArray[np.float64]

CONVENTION = (
    "Pixels are counted over all images of the split at the masks' own resolution, then scored; "
    "ignored pixels never count. Macro is the mean over the classes that occur in the masks; a "
    "class that does not occur is left out of every mean and listed as absent, and pixels "
    "predicted as it still count against their true class. Precision of a class that occurs but "
    "is never predicted is 0. F1 macro is the mean of the classes' F1. Micro adds up the counts of "
    "all classes first, so that its precision, recall and F1 all equal pixel accuracy."
)


@dataclass(frozen=True)
class ClassScore:
    """Scores of one class, 0 to 1, None if the class is in no mask; and its pixels in the masks."""

    name: str
    index: int
    pixels: int
    iou: float | None
    precision: float | None
    recall: float | None
    f1: float | None


@dataclass(frozen=True)
class Scores:
    """Scores of a dataset, 0 to 1, as `CONVENTION` defines them.

    Attributes:
        mean_class_accuracy: Same as `recall_macro`.
        frequency_weighted_iou: Mean of the IoUs, weighted by the classes' pixels.
        absent: Names of the classes in no mask.
    """

    miou: float
    pixel_accuracy: float
    mean_class_accuracy: float
    frequency_weighted_iou: float
    precision_macro: float
    recall_macro: float
    f1_macro: float
    precision_micro: float
    recall_micro: float
    f1_micro: float
    per_class: tuple[ClassScore, ...]
    absent: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Return plain values for a JSON file, the convention as text among them."""
        return {**asdict(self), "convention": CONVENTION}


def compute_ratios(tp_fp_fn: npt.NDArray[Any], *, zero_division: float) -> FloatArray:
    """Return IoU, precision, recall, F1, float64 (…, 4), of counts (…, 3), with a value for 0/0."""
    tp, fp, fn = np.moveaxis(tp_fp_fn, -1, 0)
    parts = np.stack((tp, tp, tp, 2 * tp), axis=-1)
    wholes = np.stack((tp + fp + fn, tp + fp, tp + fn, 2 * tp + fp + fn), axis=-1)
    out = np.full(parts.shape, float(zero_division))
    return np.divide(parts, wholes, out=out, where=wholes > 0)


def compute_ious(tp_fp_fn: npt.NDArray[Any]) -> FloatArray:
    """Return IoUs, float64 (…, classes), of counts (…, classes, 3); NaN for classes in no mask."""
    occurs = tp_fp_fn[..., [0, 2]].any(axis=-1)
    return np.where(occurs, compute_ratios(tp_fp_fn, zero_division=0)[..., 0], np.nan)


def compute_miou(tp_fp_fn: npt.NDArray[Any]) -> FloatArray:
    """Return the mean IoU over the classes in the masks, float64 (…), of counts (…, classes, 3).

    It is NaN if no class is in a mask.
    """
    return average_ious(compute_ious(tp_fp_fn))


def average_ious(ious: FloatArray) -> FloatArray:
    """Return the mean over the classes, float64 (…), of `compute_ious`; NaN if all are."""
    with np.errstate(invalid="ignore"):
        return np.nansum(ious, axis=-1) / np.isfinite(ious).sum(axis=-1)


def compute_scores(counts: Counts | CountArray, classes: Classes) -> Scores:
    """Compute scores from counts or a confusion matrix, as `CONVENTION` defines them.

    Raises DataError if no pixel was counted.
    """
    confusion = counts.confusion if isinstance(counts, Counts) else counts
    if not confusion.any():
        raise DataError("There is nothing to score: no mask has a labelled pixel.")
    tp_fp_fn = compute_tp_fp_fn(confusion)
    tp, pixels = tp_fp_fn[:, 0], tp_fp_fn[:, 0] + tp_fp_fn[:, 2]
    table = compute_ratios(tp_fp_fn, zero_division=0)
    miou, precision, recall, f1 = table[pixels > 0].mean(axis=0).tolist()
    accuracy = float(tp.sum() / pixels.sum())
    return Scores(
        miou=miou,
        pixel_accuracy=accuracy,
        mean_class_accuracy=recall,
        frequency_weighted_iou=float(table[:, 0] @ pixels / pixels.sum()),
        precision_macro=precision,
        recall_macro=recall,
        f1_macro=f1,
        precision_micro=accuracy,
        recall_micro=accuracy,
        f1_micro=accuracy,
        per_class=tuple(
            ClassScore(name, index, count, *(row if count else [None] * 4))
            for index, (name, row, count) in enumerate(
                zip(classes.names, table.tolist(), pixels.tolist(), strict=True)
            )
        ),
        absent=tuple(name for name, count in zip(classes.names, pixels, strict=True) if count == 0),
    )
