"""Parts of label regions in which a model predicts another class, described by numbers."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from torch import Tensor

from atrous.classes import IGNORE_INDEX
from atrous.evaluation.boundary import BoolMap, LabelMap, find_edges
from atrous.evaluation.planted_errors import MIN_REGION_SHARE, IntMap, label_regions

FloatRows = npt.NDArray[np.float64]

_MIN_PART_SHARE = MIN_REGION_SHARE / 10


@dataclass(frozen=True)
class Parts:
    """Connected pixels with one class in the mask and another one in the prediction.

    Attributes:
        regions: Number of the label region that each part lies in.
        boxes: int (parts, 4), left, top, right and bottom in pixels; right and bottom exclusive.
        given: Class in the mask.
        suggested: Class in the prediction.
        evidence: Sum of log p(suggested) − log p(given) over the part, per pixel of the image.
        numbers: float (parts, 9): logarithms of area and thickness, mean evidence, loss,
            probabilities, and the shares of the label region and the predicted region covered.
    """

    regions: npt.NDArray[np.int32]
    boxes: npt.NDArray[np.int32]
    given: npt.NDArray[np.uint8]
    suggested: npt.NDArray[np.uint8]
    evidence: FloatRows
    numbers: FloatRows


def find_parts(log_probs: Tensor, mask: LabelMap, inside: BoolMap | None = None) -> Parts:
    """Find the parts of one image, in label regions that are large enough to be ranked.

    Args:
        log_probs: Logarithms of the probabilities.
        mask: Class indices, 255 is ignored.
        inside: Only parts are returned that have half of their pixels here.

    Shapes:
        log_probs: float (classes, H, W)
        mask: uint8 (H, W)
        inside: bool (H, W)
    """
    best, classes = log_probs.max(dim=0)
    predicted = classes.cpu().numpy().astype(np.uint8)
    labelled = mask != IGNORE_INDEX
    given = np.where(labelled, mask, 0)
    index = classes.new_tensor(given.astype(np.int64))
    log_given = log_probs.gather(0, index[None])[0].double().cpu().numpy()
    log_best = best.double().cpu().numpy()
    disagrees = labelled & (predicted != mask)
    pairs = given.astype(np.int32) * len(log_probs) + predicted
    ids = label_regions(pairs, disagrees)
    true_ids, predicted_ids = label_regions(mask, labelled), label_regions(predicted, labelled)
    areas, first = np.bincount(ids.ravel()), _find_first(ids)
    true_areas = np.bincount(true_ids.ravel())[true_ids.ravel()[first]]
    predicted_areas = np.bincount(predicted_ids.ravel())[predicted_ids.ravel()[first]]
    chosen = (areas >= _MIN_PART_SHARE * mask.size) & (true_areas >= MIN_REGION_SHARE * mask.size)
    chosen[0] = False
    if inside is not None:
        chosen &= 2 * np.bincount(ids[inside], minlength=len(areas)) >= areas

    def average(values: FloatRows) -> FloatRows:
        return (np.bincount(ids.ravel(), weights=values.ravel()) / np.maximum(areas, 1))[chosen]

    thickness_px = _compute_depth(ids)
    deepest_px = np.asarray(ndimage.maximum(thickness_px, ids, np.arange(len(areas))))[chosen]
    evidence, side_px = average(log_best - log_given), mask.size**0.5
    numbers = (
        np.log(areas[chosen] / mask.size),
        np.log(deepest_px / side_px),
        np.log(average(thickness_px) / side_px),
        evidence,
        average(-log_given),
        average(np.exp(log_best)),
        np.log(average(np.exp(log_given)) + 1e-4),
        areas[chosen] / true_areas[chosen],
        areas[chosen] / predicted_areas[chosen],
    )
    places = ndimage.find_objects(ids)
    boxes = [_to_box(places[part - 1]) for part in np.flatnonzero(chosen)]
    where = first[chosen]
    return Parts(
        regions=true_ids.ravel()[where],
        boxes=np.array(boxes, np.int32).reshape(-1, 4),
        given=mask.ravel()[where],
        suggested=predicted.ravel()[where],
        evidence=evidence * areas[chosen] / mask.size,
        numbers=np.stack(numbers, axis=1),
    )


def _find_first(ids: IntMap) -> npt.NDArray[np.int64]:
    """Return the flat index of one pixel of each id; 0 for ids without one."""
    first = np.zeros(int(ids.max()) + 1, np.int64)
    first[ids.ravel()] = np.arange(ids.size)
    return first


def _compute_depth(ids: IntMap) -> FloatRows:
    """Return the distance of each pixel to the outside of its part, 1 at the edge."""
    edges = np.pad(find_edges(ids), 1, constant_values=True)
    depth = ndimage.distance_transform_cdt(~edges, "chessboard")[1:-1, 1:-1]
    return (depth + 1).astype(np.float64)


def _to_box(place: tuple[slice, slice]) -> tuple[int, int, int, int]:
    rows, columns = place
    return columns.start, rows.start, columns.stop, rows.stop
