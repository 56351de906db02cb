"""How well the edges of classes are met: boundary IoU, BF score, and mIoU in a band around them."""

import math
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from torch import Tensor

from atrous.classes import VOID
from atrous.errors import ConfigError
from atrous.evaluation.counts import CountArray, compute_errors, count_confusion
from atrous.evaluation.metrics import compute_miou, compute_ratios

LabelMap = npt.NDArray[np.uint8]
BoolMap = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class TrimapScore:
    """mIoU of the pixels within `width_px` of an edge in the mask; None if there are none."""

    width_px: float
    miou: float | None


@dataclass(frozen=True)
class BoundaryScores:
    """Scores of edges, 0 to 1; None where the masks have no edge.

    Attributes:
        boundary_iou: Mean of the classes' boundary IoU, over the classes in the masks.
        boundary_iou_per_class: In the order of the classes; None where no mask holds the class.
        dilation_ratio: Width of the boundary IoU's band, as a share of the picture's diagonal.
        bf_score: Mean over pictures of the mean over the picture's classes of boundary F1.
        bf_tolerance_ratio: How far an edge may be off, as a share of the diagonal.
        trimap: mIoU in bands of several widths.
    """

    boundary_iou: float | None
    boundary_iou_per_class: tuple[float | None, ...]
    dilation_ratio: float
    bf_score: float | None
    bf_tolerance_ratio: float
    trimap: tuple[TrimapScore, ...]


class BoundaryCounts:
    """Adds up, picture by picture, what the scores of edges are computed from.

    Void pixels count nowhere, but they end what they touch: the edge of a class towards void is
    an edge of that class.

    Boundary IoU compares only the pixels of a class that lie within `dilation_ratio` of the
    diagonal (Chebyshev distance, at least 1 px) of another label or of the picture's rim; pixels
    are added up over the data set per class, as for IoU. Source: Cheng et al. 2021,
    arXiv:2103.16562.

    BF score: per picture and class of its mask, precision is the share of predicted edge pixels
    that lie within the tolerance (Euclidean) of a true edge pixel of that class, recall the
    reverse, and F1 is averaged over the classes, then over the pictures. Edge pixels are those
    with a neighbour above, below, left or right of another label; the rim of the picture is no
    edge, and a class without an edge in the mask is left out of its picture. Source: Csurka et
    al. 2013; SegNet, arXiv:1511.00561 (0.75 % of the diagonal).

    Trimap: mIoU over the pixels within a width (Euclidean) of an edge pixel of the mask.
    Source: Kohli et al. 2009; DeepLabv1, arXiv:1412.7062, section 5.

    Args:
        num_classes: Classes of the masks.
        dilation_ratio: Of the boundary IoU.
        bf_tolerance_ratio: Of the BF score.
        trimap_widths_px: Half widths of the bands, rising.

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
        """Count one picture.

        Shapes:
            prediction: uint8 (H, W), class indices
            mask: uint8 (H, W), class indices, void 255
        """
        found, truth = prediction.cpu().numpy(), mask.cpu().numpy()
        diagonal_px = math.hypot(*truth.shape)
        self._count_boundary(found, truth, max(1, round(self.dilation_ratio * diagonal_px)))
        edges = find_edges(truth)
        score = compute_bf_score(
            found, truth, find_edges(found), edges, self.bf_tolerance_ratio * diagonal_px
        )
        if score is not None:
            self._bf_scores.append(score)
        if edges.any():
            self._count_trimap(found, truth, ndimage.distance_transform_edt(~edges))

    def _count_boundary(self, found: LabelMap, truth: LabelMap, width_px: int) -> None:
        labelled = truth != VOID
        in_found = find_band(found, width_px) & labelled
        in_truth = find_band(truth, width_px) & labelled
        hits = np.bincount(truth[in_found & in_truth & (found == truth)], minlength=VOID + 1)
        of_found = np.bincount(found[in_found], minlength=VOID + 1)
        of_truth = np.bincount(truth[in_truth], minlength=VOID + 1)
        errors = np.stack((hits, of_found - hits, of_truth - hits), axis=1)
        self._boundary += errors[: self.num_classes]

    def _count_trimap(self, found: LabelMap, truth: LabelMap, distance_px: np.ndarray) -> None:
        for index, width_px in enumerate(self.trimap_widths_px):
            near = distance_px <= width_px
            self._trimap[index] += compute_errors(
                count_confusion(found[near], truth[near], self.num_classes)
            )

    def compute(self) -> BoundaryScores:
        """Return the scores of all pictures counted so far."""
        occurs = self._boundary[:, 0] + self._boundary[:, 2] > 0
        ious = compute_ratios(self._boundary, nothing=0)[:, 0]
        return BoundaryScores(
            boundary_iou=float(ious[occurs].mean()) if occurs.any() else None,
            boundary_iou_per_class=tuple(
                float(iou) if there else None for iou, there in zip(ious, occurs, strict=True)
            ),
            dilation_ratio=self.dilation_ratio,
            bf_score=float(np.mean(self._bf_scores)) if self._bf_scores else None,
            bf_tolerance_ratio=self.bf_tolerance_ratio,
            trimap=tuple(
                TrimapScore(width_px, float(compute_miou(errors)) if errors.any() else None)
                for width_px, errors in zip(self.trimap_widths_px, self._trimap, strict=True)
            ),
        )


def find_edges(labels: LabelMap) -> BoolMap:
    """Return which pixels have a neighbour above, below, left or right of another label."""
    edges = np.zeros(labels.shape, np.bool_)
    for here, there in ((np.s_[1:], np.s_[:-1]), (np.s_[:, 1:], np.s_[:, :-1])):
        differ = labels[here] != labels[there]
        edges[here] |= differ
        edges[there] |= differ
    return edges


def find_band(labels: LabelMap, width_px: int) -> BoolMap:
    """Return which pixels have another label, or the picture's rim, within a square around them."""
    size_px = 2 * width_px + 1
    padded = np.pad(labels.astype(np.int16), width_px, constant_values=-1)
    low = ndimage.minimum_filter(padded, size_px)
    high = ndimage.maximum_filter(padded, size_px)
    inside = (slice(width_px, -width_px),) * 2
    return (low != high)[inside]


def compute_bf_score(
    found: LabelMap, truth: LabelMap, found_edges: BoolMap, edges: BoolMap, tolerance_px: float
) -> float | None:
    """Return the boundary F1 of one picture, or None where its mask has no edge of a class."""
    labelled = truth != VOID
    classes = np.unique(truth[edges & labelled])
    if not len(classes):
        return None
    true_planes = (truth == classes[:, None, None]) & edges
    found_planes = (found == classes[:, None, None]) & found_edges & labelled
    scores = []
    for near_true, near_found, true_plane, found_plane in zip(
        dilate(true_planes, tolerance_px),
        dilate(found_planes, tolerance_px),
        true_planes,
        found_planes,
        strict=True,
    ):
        if not found_plane.any():
            scores.append(0.0)
            continue
        precision = near_true[found_plane].mean()
        recall = near_found[true_plane].mean()
        scores.append(float(2 * precision * recall / max(precision + recall, 1e-12)))
    return float(np.mean(scores))


def dilate(planes: BoolMap, radius_px: float) -> BoolMap:
    """Return which pixels lie within a Euclidean distance of a set one of their plane.

    Made for few set pixels: the time goes with their number times the area of the disc.

    Shapes:
        planes: bool (planes, H, W)
        returns: bool (planes, H, W)
    """
    reach = int(radius_px)
    padded = np.pad(planes, ((0, 0), (reach, reach), (reach, reach)))
    places, width = np.flatnonzero(padded), padded.shape[2]
    flat = padded.reshape(-1)
    for down in range(-reach, reach + 1):
        for right in range(-reach, reach + 1):
            if down**2 + right**2 <= radius_px**2:
                flat[places + down * width + right] = True
    return padded[:, reach : padded.shape[1] - reach, reach : width - reach]
