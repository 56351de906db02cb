"""Recall of objects by their size."""

import math
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from atrous.classes import IGNORE_INDEX
from atrous.evaluation.planted_errors import label_regions

AREAS = (("small", 0, 32**2), ("medium", 32**2, 96**2), ("large", 96**2, math.inf))
"""Name, smallest area and upper bound of each size, in pixels, as in COCO."""


@dataclass(frozen=True)
class ObjectScore:
    """Objects of one size: `small` (below 32² px), `medium` (below 96² px) or `large`.

    `recall` is the mean over the objects of the share of their pixels predicted as their class,
    `found` the share of the objects of which at least half of the pixels are.
    """

    area: str
    num_objects: int
    recall: float | None
    found: float | None


class ObjectCounts:
    """Accumulates the recall of each object, image by image.

    An object is an 8-connected region of one class in the mask; touching objects of a class are
    one. Class 0 counts like any other.
    """

    def __init__(self) -> None:
        self._recalls: dict[str, list[float]] = {name: [] for name, _, _ in AREAS}

    def update(self, prediction: Tensor, mask: Tensor) -> None:
        """Count one image: class indices, uint8 (H, W); 255 is ignored in the mask."""
        predicted, true = prediction.cpu().numpy(), mask.cpu().numpy()
        regions = label_regions(true, true != IGNORE_INDEX)
        areas = np.bincount(regions.ravel())[1:]
        recalls = np.bincount(regions[predicted == true], minlength=len(areas) + 1)[1:] / areas
        for name, smallest, below in AREAS:
            self._recalls[name] += recalls[(areas >= smallest) & (areas < below)].tolist()

    def compute(self) -> tuple[ObjectScore, ...]:
        """Return the scores of all images counted so far."""
        scores = []
        for name, recalls in self._recalls.items():
            mean = float(np.mean(recalls)) if recalls else None
            found = float(np.mean(np.array(recalls) >= 0.5)) if recalls else None
            scores.append(ObjectScore(name, len(recalls), mean, found))
        return tuple(scores)
