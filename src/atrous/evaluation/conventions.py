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

    `key` is a short name such as `image-macro`, `rule` says what is averaged over what, and
    `reported_by` names libraries and papers.
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

    Counts are int64 (images, classes, 3). Images without a labelled pixel are left out; DataError
    if there is no other.
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


def _count_pixels(counts: CountArray) -> CountArray:
    return counts[..., [0, 2]].sum(-1)


def _average(counts: CountArray, weights: np.ndarray) -> FloatArray:
    ratios = compute_ratios(counts, zero_division=0)
    return (ratios * weights[..., None]).sum(-2) / weights.sum(-1)[..., None]


def _average_over_union(counts: CountArray) -> FloatArray:
    return _average(counts, counts.sum(-1) > 0)


def _score_one_vs_rest(counts: CountArray) -> FloatArray:
    """Score the pixels of all one-hot planes as two classes, weighted by their pixels."""
    tp, fp, fn = counts.sum(axis=0)
    tn = len(counts) * _count_pixels(counts).sum() - tp - fp - fn
    planes = np.array([[tp, fp, fn], [tn, fn, fp]])
    return _average(planes, _count_pixels(planes))


_SCOPES = (
    ("dataset", "dataset", "the masks", "predictions"),
    ("image", "per image", "its mask", "prediction"),
)
"""Key and words: averages of the counts of the dataset, or means of averages over the images."""

_AVERAGES: tuple[tuple[str, Callable[[CountArray], FloatArray], str, str, str], ...] = (
    (
        "macro", lambda counts: _average(counts, _count_pixels(counts) > 0),
        "mean over the classes in {masks}",
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
        "macro-absent-1", lambda counts: compute_ratios(counts, zero_division=1).mean(-2),
        "mean over all classes, 0/0 is 1",
        "segmentation_models.pytorch, reduction='macro'",
        "segmentation_models.pytorch, reduction='macro-imagewise'",
    ),
    (
        "macro-absent-0", lambda counts: compute_ratios(counts, zero_division=0).mean(-2),
        "mean over all classes, 0/0 is 0",
        "PaddleSeg; scikit-learn with all labels given",
        "loops over images with all labels given and zero_division=0",
    ),
    (
        "weighted", lambda counts: _average(counts, _count_pixels(counts)),
        "mean weighted by the classes' pixels",
        "scikit-learn, average='weighted'; frequency-weighted IoU of the FCN paper",
        "loops over images with scikit-learn, average='weighted'",
    ),
    (
        "micro", lambda counts: compute_ratios(counts.sum(axis=-2), zero_division=0),
        "counts of all classes summed first",
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
