"""Confusion counts: the one core from which every score is computed."""

from typing import Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from atrous.classes import IGNORE_INDEX
from atrous.errors import DataError

CountArray = npt.NDArray[np.int64]


class Counts:
    """Pixels by true and predicted class, accumulated image by image.

    Ignored pixels never count. Memory does not grow with the number of images, and the counts of
    parts of a dataset add up (`+`) to the counts of the whole. `confusion` is int64 (classes,
    classes); row = true class, column = predicted class.
    """

    def __init__(self, num_classes: int) -> None:
        self.confusion: CountArray = np.zeros((num_classes, num_classes), dtype=np.int64)
        self.num_images = 0

    @classmethod
    def from_numpy(cls, confusion: CountArray, num_images: int = 0) -> Self:
        """Build counts from a confusion matrix, which is copied."""
        counts = cls(len(confusion))
        counts.confusion += confusion
        counts.num_images = num_images
        return counts

    def update(self, prediction: Tensor, mask: Tensor) -> CountArray:
        """Count one image, and return its true positives, false positives and false negatives.

        Raises DataError if a mask value is neither a class nor ignored.

        Shapes:
            prediction, mask: uint8 (H, W), class indices; 255 is ignored in the mask
            returns: int64 (classes, 3), in pixels
        """
        confusion = count_confusion(prediction, mask, num_classes=len(self.confusion))
        self.confusion += confusion
        self.num_images += 1
        return compute_tp_fp_fn(confusion)

    def __add__(self, other: Self) -> Self:
        num_images = self.num_images + other.num_images
        return self.from_numpy(self.confusion + other.confusion, num_images)


def compute_tp_fp_fn(confusion: CountArray) -> CountArray:
    """Return true positives, false positives and false negatives, int64 (classes, 3)."""
    tp = np.diagonal(confusion)
    return np.stack((tp, confusion.sum(0) - tp, confusion.sum(1) - tp), axis=1)


def count_confusion(prediction: Tensor, mask: Tensor, num_classes: int) -> CountArray:
    """Count the pixels of two label maps on the device of the prediction; rows are true classes.

    Pixels that the mask ignores are left out.
    """
    if prediction.shape != mask.shape:
        shapes = tuple(prediction.shape), tuple(mask.shape)
        raise ValueError(f"prediction {shapes[0]} and mask {shapes[1]} differ in size")
    if prediction.numel() and (largest := int(prediction.max())) >= num_classes:
        raise ValueError(f"prediction holds {largest}, not one of {num_classes} classes")
    # One bin per (mask value, class), ignored included: faster than selecting valid pixels first.
    bins = mask.to(prediction.device, torch.int32) * num_classes + prediction
    counted = torch.bincount(bins.flatten(), minlength=(IGNORE_INDEX + 1) * num_classes)
    table: CountArray = counted.cpu().numpy().reshape(IGNORE_INDEX + 1, num_classes)
    if table[num_classes:IGNORE_INDEX].any():
        values = num_classes + np.flatnonzero(table[num_classes:IGNORE_INDEX].any(axis=1))
        raise DataError(
            f"A mask holds the values {', '.join(map(str, values))}, but there are "
            f"{num_classes} classes (0 to {num_classes - 1}) and the ignore index ({IGNORE_INDEX})."
        )
    return table[:num_classes]
