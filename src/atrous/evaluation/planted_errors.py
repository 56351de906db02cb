"""Label errors planted into a mask: what wrong labels of a dataset look like to a model."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from atrous.classes import IGNORE_INDEX
from atrous.evaluation.boundary import BoolMap, LabelMap

ERROR_KINDS = ("swapped", "shifted", "dropped", "grown")
"""The region has another class; lies beside its object; has the class of its neighbours; is too
large by a margin."""

MIN_REGION_SHARE = 0.001
"""Smallest region that is ranked, as a share of the image: 13 × 13 pixels of 480 × 360."""

_DIAGONALS_PER_MARGIN = 60
_EIGHT_NEIGHBOURS = np.ones((3, 3), np.int8)

IntMap = npt.NDArray[np.int32]


@dataclass(frozen=True)
class PlantedError:
    """The kind of an error, and which pixels have another label by it, bool (H, W)."""

    kind: str
    changed: BoolMap


def plant_errors(
    mask: LabelMap,
    num_classes: int,
    rng: np.random.Generator,
    *,
    share: float,
    kinds: tuple[str, ...] = ERROR_KINDS,
) -> tuple[LabelMap, list[PlantedError]]:
    """Plant errors in random label regions of a mask.

    Regions are shifted in a random direction, or grown, by a sixtieth of the diagonal: 10 pixels
    of 480 × 360. An error that would overlap another one, or change less than the smallest region,
    is left out. A region is chosen with the probability `share`; kinds are equally probable.

    Shapes:
        mask: uint8 (H, W), class indices, 255 is ignored
        returns: the changed mask, uint8 (H, W), and the errors in it
    """
    result, errors = mask.copy(), list[PlantedError]()
    regions = label_regions(mask, mask != IGNORE_INDEX)
    areas = np.bincount(regions.ravel())[1:]
    taken = np.zeros(mask.shape, np.bool_)
    min_px = MIN_REGION_SHARE * mask.size
    for index in np.flatnonzero((areas >= min_px) & (rng.random(len(areas)) < share)) + 1:
        kind = str(rng.choice(kinds))
        planted = _plant(mask, regions == index, kind, num_classes, rng)
        changed = planted != mask
        if changed.sum() < min_px or (taken & changed).any():
            continue
        result[changed] = planted[changed]
        taken |= changed
        errors.append(PlantedError(kind, changed))
    return result, errors


def label_regions(values: npt.NDArray[np.integer], valid: BoolMap) -> IntMap:
    """Number the 8-connected regions of equal values from 1; pixels that are not valid have 0."""
    codes = np.where(valid, values.astype(np.int32) + 1, 0)
    ids, num_regions = np.zeros(values.shape, np.int32), 0
    for code, place in enumerate(ndimage.find_objects(codes), start=1):
        if place is not None:
            found, number = ndimage.label(codes[place] == code, _EIGHT_NEIGHBOURS)
            ids[place] += np.where(found > 0, found + num_regions, 0).astype(np.int32)
            num_regions += number
    return ids


def _plant(
    mask: LabelMap, region: BoolMap, kind: str, num_classes: int, rng: np.random.Generator
) -> LabelMap:
    """Return the mask with an error in one region; unchanged if the error is not possible."""
    margin_px = max(1, round(float(np.hypot(*mask.shape)) / _DIAGONALS_PER_MARGIN))
    box = ndimage.find_objects(region.astype(np.int8))[0]
    place = tuple(slice(max(0, side.start - margin_px), side.stop + margin_px) for side in box)
    own, region, result = int(mask[region][0]), region[place], mask.copy()
    local = result[place]
    if kind == "swapped":
        others = [index for index in range(num_classes) if index != own]
        local[region] = rng.choice(others) if others else own
    elif kind == "grown":
        outside = ndimage.distance_transform_edt(~region)
        local[outside <= margin_px] = own
    else:
        source = ~region & (local != IGNORE_INDEX)
        if not source.any():
            return result
        _, nearest = ndimage.distance_transform_edt(~source, return_indices=True)
        local[region] = local[tuple(nearest)][region]
        if kind == "shifted":
            angle = rng.uniform(0, 2 * np.pi)
            offset = round(margin_px * np.sin(angle)), round(margin_px * np.cos(angle))
            local[ndimage.shift(region, offset, order=0)] = own
    return result
