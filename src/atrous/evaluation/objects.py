"""How much of an object is found, by its size."""

import math
from dataclasses import dataclass

import numpy as np
from scipy import ndimage
from torch import Tensor

from atrous.classes import VOID

AREAS = (("small", 0, 32**2), ("medium", 32**2, 96**2), ("large", 96**2, math.inf))
"""Name, least area and the area below which an object is of it, in pixels, as COCO has them."""

_EIGHT_NEIGHBOURS = np.ones((3, 3), np.int8)


@dataclass(frozen=True)
class ObjectScore:
    """Objects of one size.

    Attributes:
        area: `small` (below 32² px), `medium` (below 96² px) or `large`.
        num_objects: How many the masks hold.
        recall: Mean over these objects of the share of their pixels that got their class.
        found: Share of these objects of which at least half of the pixels did.
    """

    area: str
    num_objects: int
    recall: float | None
    found: float | None


class ObjectCounts:
    """Adds up, picture by picture, how much of each object is found.

    An object is a connected region of one class in the mask, corners included; touching objects
    of a class are one. Class 0 counts like any other.
    """

    def __init__(self) -> None:
        self._recalls: dict[str, list[float]] = {name: [] for name, _, _ in AREAS}

    def update(self, prediction: Tensor, mask: Tensor) -> None:
        """Count one picture.

        Shapes:
            prediction: uint8 (H, W), class indices
            mask: uint8 (H, W), class indices, void 255
        """
        found, truth = prediction.cpu().numpy(), mask.cpu().numpy()
        hits = found == truth
        for index in np.unique(truth[truth != VOID]):
            regions, _ = ndimage.label(truth == index, _EIGHT_NEIGHBOURS)
            areas = np.bincount(regions.ravel())[1:]
            recalls = np.bincount(regions[hits], minlength=len(areas) + 1)[1:] / areas
            for name, least, below in AREAS:
                self._recalls[name] += recalls[(areas >= least) & (areas < below)].tolist()

    def compute(self) -> tuple[ObjectScore, ...]:
        """Return the scores of all pictures counted so far."""
        scores = []
        for name, recalls in self._recalls.items():
            mean = float(np.mean(recalls)) if recalls else None
            found = float(np.mean(np.array(recalls) >= 0.5)) if recalls else None
            scores.append(ObjectScore(name, len(recalls), mean, found))
        return tuple(scores)
