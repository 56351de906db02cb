"""The same counts scored under the averaging conventions of other libraries and papers."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from atrous.errors import DataError
from atrous.evaluation.counts import CountArray
from atrous.evaluation.metrics import FloatArray, compute_ratios


@dataclass(frozen=True)
class Convention:
    """Scores of a dataset under one convention, 0 to 1.

    Attributes:
        key: Short name, such as `image-macro`.
        rule: What is averaged over what.
        reported_by: Libraries and papers that report it.
    """

    key: str
    rule: str
    reported_by: str
    iou: float
    precision: float
    recall: float
    f1: float


def compute_conventions(counts: CountArray) -> tuple[Convention, ...]:
    """Score counts under every convention of the table in docs/metrics.md.

    Images without a labelled pixel are left out.

    Shapes:
        counts: int64 (images, classes, 3), tp, fp and fn in the last axis

    Raises:
        DataError: No image has a labelled pixel.
    """
    counts = counts[counts[..., [0, 2]].any(axis=(1, 2))]
    if not len(counts):
        raise DataError("There is nothing to score: no mask has a labelled pixel.")
    total = counts.sum(axis=0)
    rows = [
        (
            f"{over}-{suffix}",
            f"{where}, {rule.format(masks=masks, predictions=predictions)}",
            reported_by[over == "image"],
            average(counts).mean(0) if over == "image" else average(total),
        )
        for over, where, masks, predictions in _SCOPES
        for suffix, average, rule, *reported_by in _AVERAGES
    ]
    rows += [(*_PAIRS, _average_over_union(counts.reshape(-1, 3)))]
    rows += [(*_ONE_VS_REST, _score_one_vs_rest(total))]
    return tuple(
        Convention(key, rule, reported_by, *scores.tolist())
        for key, rule, reported_by, scores in rows
    )


# Each average maps counts (…, classes, 3) to IoU, precision, recall and F1 (…, 4).


def _average_over_masks(counts: CountArray) -> FloatArray:
    return _mean(compute_ratios(counts, zero_division=0), counts[..., 0] + counts[..., 2] > 0)


def _average_over_union(counts: CountArray) -> FloatArray:
    return _mean(compute_ratios(counts, zero_division=0), counts.sum(-1) > 0)


def _average_absent_as_one(counts: CountArray) -> FloatArray:
    return compute_ratios(counts, zero_division=1).mean(-2)


def _average_absent_as_zero(counts: CountArray) -> FloatArray:
    return compute_ratios(counts, zero_division=0).mean(-2)


def _average_by_pixels(counts: CountArray) -> FloatArray:
    return _mean(compute_ratios(counts, zero_division=0), counts[..., 0] + counts[..., 2])


def _average_pooled(counts: CountArray) -> FloatArray:
    return compute_ratios(counts.sum(axis=-2), zero_division=0)


def _score_one_vs_rest(counts: CountArray) -> FloatArray:
    """Score the pixels of all one-hot planes as two classes, weighted by their pixels."""
    tp, fp, fn = counts.sum(axis=0)
    num_pixels = counts[:, [0, 2]].sum()
    tn = len(counts) * num_pixels - tp - fp - fn
    return _average_by_pixels(np.array([[tp, fp, fn], [tn, fn, fp]]))


def _mean(ratios: FloatArray, weights: np.ndarray) -> FloatArray:
    return (ratios * weights[..., None]).sum(-2) / weights.sum(-1)[..., None]


_SCOPES = (
    ("dataset", "dataset", "the masks", "predictions"),
    ("image", "per image", "its mask", "prediction"),
)
"""Key and words: averages of the counts of the dataset, or means of averages over the images."""

_AVERAGES: tuple[tuple[str, Callable[[CountArray], FloatArray], str, str, str], ...] = (
    (
        "macro", _average_over_masks, "mean over the classes in {masks}",
        "atrous; the VOC and Cityscapes servers, where every class occurs",
        "image-wise mIoU (Wang et al. 2023, arXiv:2310.19252)",
    ),
    (
        "macro-union", _average_over_union, "mean over the classes in {masks} or {predictions}",
        "mmsegmentation, VainF/DeepLabV3Plus-Pytorch, torchmetrics JaccardIndex (torchvision's "
        "references too, but a class in neither makes theirs NaN)",
        "loops that score one image or batch at a time with scikit-learn, average='macro'",
    ),
    (
        "macro-absent-1", _average_absent_as_one, "mean over all classes, 0/0 is 1",
        "segmentation_models.pytorch, reduction='macro'",
        "segmentation_models.pytorch, reduction='macro-imagewise'",
    ),
    (
        "macro-absent-0", _average_absent_as_zero, "mean over all classes, 0/0 is 0",
        "PaddleSeg; scikit-learn with all labels given",
        "loops over images with all labels given and zero_division=0",
    ),
    (
        "weighted", _average_by_pixels, "mean weighted by the classes' pixels",
        "scikit-learn, average='weighted'; frequency-weighted IoU of the FCN paper",
        "loops over images with scikit-learn, average='weighted'",
    ),
    (
        "micro", _average_pooled, "counts of all classes summed first",
        "segmentation_models.pytorch, reduction='micro'; pixel accuracy as precision, recall, F1",
        "segmentation_models.pytorch, reduction='micro-imagewise'",
    ),
)  # fmt: skip
"""Key, average and rule, and who reports it over the dataset and over images."""

_PAIRS = (
    "image-class-pairs",
    "mean over all pairs of an image and a class in its mask or prediction",
    "torchmetrics.segmentation.MeanIoU",
)
_ONE_VS_REST = (
    "one-vs-rest",
    "one-vs-rest masks of all classes pooled, their two values weighted by pixels",
    "scikit-learn on flattened one-hot masks, average='weighted'",
)

CONVENTION_KEYS = (
    *(f"{scope[0]}-{average[0]}" for scope in _SCOPES for average in _AVERAGES),
    _PAIRS[0],
    _ONE_VS_REST[0],
)
"""Names of all conventions."""
