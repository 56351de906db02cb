"""Scores of class edges: boundary IoU, BF score, and mIoU in bands around edges (trimap)."""

import math
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import torch
from scipy import ndimage
from torch import Tensor

from atrous.classes import IGNORE_INDEX
from atrous.errors import ConfigError
from atrous.evaluation.counts import CountArray, compute_tp_fp_fn, count_confusion
from atrous.evaluation.metrics import compute_ious, compute_miou

LabelMap = npt.NDArray[np.uint8]
BoolMap = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class TrimapScore:
    """mIoU of the pixels within `width_px` of an edge in the mask; None without such pixels."""

    width_px: float
    miou: float | None


@dataclass(frozen=True)
class BoundaryScores:
    """Scores of edges, 0 to 1; None if the masks have no edge.

    The ratios are the width of the boundary IoU's band and the tolerance of the BF score, as shares
    of the image's diagonal. `boundary_iou` is the mean over the classes in the masks.
    """

    boundary_iou: float | None
    boundary_iou_per_class: tuple[float | None, ...]
    dilation_ratio: float
    bf_score: float | None
    bf_tolerance_ratio: float
    trimap: tuple[TrimapScore, ...]


class BoundaryCounts:
    """Accumulates the counts behind the scores of edges, image by image.

    Ignored pixels never count, but the edge of a class towards ignored pixels is an edge of that
    class.

    Boundary IoU compares only the pixels of a class that lie within `dilation_ratio` of the
    diagonal (Chebyshev distance, at least 1 px) of another label or of the image border;
    pixels are added up over the dataset per class, as for IoU. Source: Cheng et al. 2021,
    arXiv:2103.16562.

    BF score: per image and class of its mask, precision is the share of predicted edge pixels
    that lie within the tolerance (Euclidean) of a true edge pixel of that class, recall the
    reverse, and F1 is averaged over the classes, then over the images. Edge pixels are those
    with a 4-neighbour of another label; the image border is no edge, and a class without an edge
    in the mask is left out of its image. Source: Csurka et al. 2013; SegNet, arXiv:1511.00561
    (0.75 % of the diagonal).

    Trimap: mIoU over the pixels within a width (Euclidean) of an edge pixel of the mask.
    Source: Kohli et al. 2009; DeepLabv1, arXiv:1412.7062, section 5.

    Raises:
        ConfigError: A width or ratio is not above 0, or the widths do not rise.
    """

    def __init__(
        self,
        num_classes: int,
        *,
        dilation_ratio: float = 0.02,
        bf_tolerance_ratio: float = 0.0075,
        trimap_widths_px: tuple[float, ...] = (1, 2, 4, 8, 16),
    ) -> None:
        rising = (0.0, *trimap_widths_px)
        if any(a >= b for a, b in pairwise(rising)):
            raise ConfigError(f"Trimap widths must be above 0 and rise, not {trimap_widths_px}.")
        if min(dilation_ratio, bf_tolerance_ratio) <= 0:
            raise ConfigError("The ratios of boundary scores must be above 0.")
        self.num_classes = num_classes
        self.dilation_ratio = dilation_ratio
        self.bf_tolerance_ratio = bf_tolerance_ratio
        self.trimap_widths_px = trimap_widths_px
        self._boundary: CountArray = np.zeros((num_classes, 3), np.int64)
        self._trimap: CountArray = np.zeros((len(trimap_widths_px), num_classes, 3), np.int64)
        self._bf_scores: list[float] = []

    def update(self, prediction: Tensor, mask: Tensor) -> None:
        """Count one image: class indices, uint8 (H, W); 255 is ignored in the mask."""
        predicted, true = prediction.cpu().numpy(), mask.cpu().numpy()
        diagonal_px = math.hypot(*true.shape)
        self._count_boundary(predicted, true, max(1, round(self.dilation_ratio * diagonal_px)))
        true_edges = find_edges(true)
        tolerance_px = self.bf_tolerance_ratio * diagonal_px
        score = _compute_bf_score(predicted, true, find_edges(predicted), true_edges, tolerance_px)
        if score is not None:
            self._bf_scores.append(score)
        if true_edges.any():
            distance_px = ndimage.distance_transform_edt(~true_edges)
            for index, width_px in enumerate(self.trimap_widths_px):
                is_near = distance_px <= width_px
                near = torch.from_numpy(predicted[is_near]), torch.from_numpy(true[is_near])
                confusion = count_confusion(*near, num_classes=self.num_classes)
                self._trimap[index] += compute_tp_fp_fn(confusion)

    def _count_boundary(self, predicted: LabelMap, true: LabelMap, width_px: int) -> None:
        labelled = true != IGNORE_INDEX
        near_predicted = find_band(predicted, width_px) & labelled
        near_true = find_band(true, width_px) & labelled
        is_correct = near_predicted & near_true & (predicted == true)
        tp = np.bincount(true[is_correct], minlength=IGNORE_INDEX + 1)
        num_predicted = np.bincount(predicted[near_predicted], minlength=IGNORE_INDEX + 1)
        num_true = np.bincount(true[near_true], minlength=IGNORE_INDEX + 1)
        tp_fp_fn = np.stack((tp, num_predicted - tp, num_true - tp), axis=1)
        self._boundary += tp_fp_fn[: self.num_classes]

    def compute(self) -> BoundaryScores:
        """Return the scores of all images counted so far."""
        ious = compute_ious(self._boundary)
        known = ious[~np.isnan(ious)]
        return BoundaryScores(
            boundary_iou=float(known.mean()) if known.size else None,
            boundary_iou_per_class=tuple(None if math.isnan(iou) else iou for iou in ious.tolist()),
            dilation_ratio=self.dilation_ratio,
            bf_score=float(np.mean(self._bf_scores)) if self._bf_scores else None,
            bf_tolerance_ratio=self.bf_tolerance_ratio,
            trimap=tuple(
                TrimapScore(width_px, float(compute_miou(counts)) if counts.any() else None)
                for width_px, counts in zip(self.trimap_widths_px, self._trimap, strict=True)
            ),
        )


def find_edges(labels: npt.NDArray[np.integer]) -> BoolMap:
    """Return the pixels with a 4-neighbour of another label."""
    edges = np.zeros(labels.shape, np.bool_)
    for here, there in ((np.s_[1:], np.s_[:-1]), (np.s_[:, 1:], np.s_[:, :-1])):
        differ = labels[here] != labels[there]
        edges[here] |= differ
        edges[there] |= differ
    return edges


def find_band(labels: LabelMap, width_px: int) -> BoolMap:
    """Return the pixels with another label or the image border within a square around them."""
    size_px = 2 * width_px + 1
    padded = np.pad(labels.astype(np.int16), width_px, constant_values=-1)
    low = ndimage.minimum_filter(padded, size_px)
    high = ndimage.maximum_filter(padded, size_px)
    inside = (slice(width_px, -width_px),) * 2
    return (low != high)[inside]


def _compute_bf_score(
    predicted: LabelMap,
    true: LabelMap,
    predicted_edges: BoolMap,
    true_edges: BoolMap,
    tolerance_px: float,
) -> float | None:
    """Return the boundary F1 of one image, or None if its mask has no edge of a class."""
    labelled = true != IGNORE_INDEX
    classes = np.unique(true[true_edges & labelled])
    if not len(classes):
        return None
    true_planes = (true == classes[:, None, None]) & true_edges
    predicted_planes = (predicted == classes[:, None, None]) & predicted_edges & labelled
    near_true = dilate(true_planes, tolerance_px)
    near_predicted = dilate(predicted_planes, tolerance_px)
    scores = []
    for index in range(len(classes)):
        if not predicted_planes[index].any():
            scores.append(0.0)
            continue
        precision = near_true[index][predicted_planes[index]].mean()
        recall = near_predicted[index][true_planes[index]].mean()
        scores.append(float(2 * precision * recall / max(precision + recall, 1e-12)))
    return float(np.mean(scores))


def dilate(planes: BoolMap, radius_px: float) -> BoolMap:
    """Dilate each plane, bool (planes, H, W), by a disc, in time by set pixels and its area."""
    reach = int(radius_px)
    padded = np.pad(planes, ((0, 0), (reach, reach), (reach, reach)))
    places, width = np.flatnonzero(padded), padded.shape[2]
    flat = padded.reshape(-1)
    for down in range(-reach, reach + 1):
        for right in range(-reach, reach + 1):
            if down**2 + right**2 <= radius_px**2:
                flat[places + down * width + right] = True
    return padded[:, reach : padded.shape[1] - reach, reach : width - reach]
