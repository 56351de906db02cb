"""Parts of label regions in which a model predicts another class, and which of them are errors."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from scipy import ndimage
from scipy.optimize import minimize
from scipy.special import expit
from torch import Tensor

from atrous.classes import IGNORE_INDEX
from atrous.engines.logits import compute_mask
from atrous.evaluation.boundary import BoolMap, LabelMap, find_edges
from atrous.evaluation.planted_errors import MIN_REGION_SHARE, IntMap, label_regions

FloatRows = npt.NDArray[np.float64]
RowFunction = Callable[[FloatRows], FloatRows]

_MIN_PART_SHARE = MIN_REGION_SHARE / 2

ASSUMED_SHARE = 0.05
"""Share of wrong regions that the score assumes."""

PLANTED_SHARE = 0.25
"""Share of the regions of a copy in which errors are planted."""

_MAX_ROWS = 20_000
_MAX_DEVIATIONS = 4.0
_RIDGE = 10.0


@dataclass(frozen=True)
class Parts:
    """Connected pixels with one class in the mask and another one in the prediction.

    Attributes:
        num_regions: Label regions of the image that are large enough to be ranked.
        regions: Number of the label region that each part lies in.
        boxes: int (parts, 4), left, top, right and bottom in pixels; right and bottom exclusive.
        given, suggested: Class in the mask and in the prediction.
        evidence: Sum of log p(suggested) − log p(given) over the part, per pixel of the image.
        numbers: float (parts, 9): logarithms of area and thickness, mean evidence, loss,
            probabilities, and the shares of the label region and the predicted region covered.
    """

    num_regions: int
    regions: npt.NDArray[np.int32]
    boxes: npt.NDArray[np.int32]
    given: npt.NDArray[np.uint8]
    suggested: npt.NDArray[np.uint8]
    evidence: FloatRows
    numbers: FloatRows


def find_parts(log_probs: Tensor, mask: LabelMap, inside: BoolMap | None = None) -> Parts:
    """Find the parts of one image, in label regions that are large enough to be ranked.

    Shapes:
        log_probs: float (classes, H, W), logarithms of the probabilities
        mask: uint8 (H, W), class indices, 255 is ignored
        inside: bool (H, W); only parts are returned that have half of their pixels here
    """
    predicted = compute_mask(log_probs).cpu().numpy()
    labelled = mask != IGNORE_INDEX
    pairs = mask.astype(np.int32) * len(log_probs) + predicted
    ids = label_regions(pairs, labelled & (predicted != mask))
    label_ids = label_regions(mask, labelled).ravel()
    predicted_ids = label_regions(predicted, labelled).ravel()
    label_areas, predicted_areas = np.bincount(label_ids), np.bincount(predicted_ids)
    is_ranked = label_areas >= MIN_REGION_SHARE * mask.size
    is_ranked[0] = False
    where = np.flatnonzero(ids)
    own = ids.ravel()[where].astype(np.int64) - 1  # part of each of these pixels
    areas = np.bincount(own)
    chosen = areas >= _MIN_PART_SHARE * mask.size
    chosen[own[~is_ranked[label_ids[where]]]] = False
    if inside is not None:
        chosen &= 2 * np.bincount(own[inside.ravel()[where]], minlength=len(areas)) >= areas
    where, own = where[chosen[own]], (np.cumsum(chosen) - 1)[own[chosen[own]]]
    areas = areas[chosen]
    first = np.zeros(len(areas), np.int64)
    first[own] = where
    shares = areas / label_areas[label_ids[first]], areas / predicted_areas[predicted_ids[first]]
    measured = _measure(log_probs.flatten(1), mask.ravel(), where, own)
    depth_px = _compute_depth_px(ids).ravel()[where]
    deepest_px = np.zeros(len(areas))
    np.maximum.at(deepest_px, own, depth_px)
    thickness = (deepest_px, np.bincount(own, weights=depth_px) / areas)
    side_px = mask.size**0.5
    sizes = (np.log(areas / mask.size), *(np.log(px / side_px) for px in thickness))
    boxes = [
        (columns.start, rows.start, columns.stop, rows.stop)
        for rows, columns in ndimage.find_objects(ids)
    ]
    return Parts(
        num_regions=int(is_ranked.sum()),
        regions=label_ids[first],
        boxes=np.array(boxes, np.int32).reshape(-1, 4)[chosen],
        given=mask.ravel()[first],
        suggested=predicted.ravel()[first],
        evidence=measured[0] * areas / mask.size,
        numbers=np.stack((*sizes, *measured, *shares), axis=1),
    )


def _measure(
    log_probs: Tensor, mask: LabelMap, where: npt.NDArray[np.int64], own: npt.NDArray[np.int64]
) -> tuple[FloatRows, ...]:
    """Return the mean evidence, loss and probabilities of each part; `own` is that of `where`."""
    places = torch.from_numpy(where).to(log_probs.device)
    given = torch.from_numpy(mask[where].astype(np.int64)).to(log_probs.device)
    there = log_probs[:, places].double()
    log_best = there.amax(dim=0).cpu().numpy()
    log_given = there.gather(0, given[None])[0].cpu().numpy()
    areas = np.bincount(own)
    evidence, loss, best, probability = (
        np.bincount(own, weights=values) / areas
        for values in (log_best - log_given, -log_given, np.exp(log_best), np.exp(log_given))
    )
    return evidence, loss, best, np.log(probability + 1e-4)


def _compute_depth_px(ids: IntMap) -> FloatRows:
    """Return the distance of each pixel to the outside of its part, 1 at the edge."""
    edges = np.pad(find_edges(ids), 1, constant_values=True)
    depth = ndimage.distance_transform_cdt(~edges, "chessboard")[1:-1, 1:-1]
    return (depth + 1).astype(np.float64)


def fit_ranking(given: FloatRows, planted: FloatRows, num_copies: int) -> RowFunction:
    """Fit a classifier of parts, and return the function that scores them.

    Given parts that look planted are probably wrong labels: they are left out of a second fit. The
    scores assume that `ASSUMED_SHARE` of the regions are wrong. Errors were planted into
    `num_copies` copies of the masks.

    Shapes:
        given, planted: float (rows, numbers)
    """
    rng = np.random.default_rng(0)
    given, planted = (
        rows if len(rows) <= _MAX_ROWS else rng.choice(rows, _MAX_ROWS, replace=False)
        for rows in (given, planted)
    )
    is_planted = _fit_logistic(given, planted, num_copies)
    is_planted = _fit_logistic(given[is_planted(given) < 0], planted, num_copies)
    shift = np.log(ASSUMED_SHARE / PLANTED_SHARE)
    return lambda rows: expit(is_planted(rows) + shift)


def _fit_logistic(given: FloatRows, planted: FloatRows, given_weight: float) -> RowFunction:
    """Fit a logistic regression with squares and products; return the function of its logits."""
    rows = np.concatenate((given, planted))
    mean, scale = rows.mean(axis=0), rows.std(axis=0) + 1e-6
    first, second = np.triu_indices(rows.shape[1])

    def expand(values: FloatRows) -> FloatRows:
        linear = np.clip((values - mean) / scale, -_MAX_DEVIATIONS, _MAX_DEVIATIONS)
        ones = np.ones((len(linear), 1))
        return np.concatenate((ones, linear, linear[:, first] * linear[:, second]), axis=1)

    features = expand(rows)
    is_planted = np.repeat((0.0, 1.0), (len(given), len(planted)))
    importance = np.where(is_planted > 0, 1.0, given_weight)

    def compute_loss(weights: FloatRows) -> tuple[float, FloatRows]:
        logits = features @ weights
        loss = importance * (np.logaddexp(0, logits) - is_planted * logits)
        slope = features.T @ (importance * (expit(logits) - is_planted))
        penalty = np.concatenate(([0.0], weights[1:]))
        return loss.sum() + _RIDGE / 2 * penalty @ penalty, slope + _RIDGE * penalty

    best = minimize(compute_loss, np.zeros(features.shape[1]), jac=True, method="L-BFGS-B")
    return lambda values: expand(values) @ best.x
