"""The one core of evaluation: how often each class was taken for each."""

from typing import Self

import numpy as np
import numpy.typing as npt
from torch import Tensor

from atrous.classes import VOID
from atrous.errors import DataError

CountArray = npt.NDArray[np.int64]


class Counts:
    """Pixels by true and predicted class, added up picture by picture.

    Void pixels never count. Memory does not grow with the number of pictures, and counts of
    parts of a data set add up (`+`) to the counts of the whole.

    Attributes:
        confusion: int64 (classes, classes); row = true class, column = predicted class.
        num_images: How many pictures were counted.
    """

    def __init__(self, num_classes: int) -> None:
        self.confusion: CountArray = np.zeros((num_classes, num_classes), dtype=np.int64)
        self.num_images = 0

    @classmethod
    def from_numpy(cls, confusion: CountArray, num_images: int = 0) -> Self:
        """Take up counts again from a confusion matrix, which is copied."""
        counts = cls(len(confusion))
        counts.confusion += confusion
        counts.num_images = num_images
        return counts

    def update(self, prediction: Tensor, mask: Tensor) -> CountArray:
        """Count one picture.

        Args:
            prediction: uint8 (H, W), class indices.
            mask: uint8 (H, W), true class indices; 255 is void.

        Returns:
            int64 (classes, 3): true positives, false positives and false negatives of this
            picture, in pixels.

        Raises:
            DataError: A mask value is neither a class nor void.
        """
        confusion = count_confusion(
            prediction.cpu().numpy(), mask.cpu().numpy(), len(self.confusion)
        )
        self.confusion += confusion
        self.num_images += 1
        return compute_errors(confusion)

    def __add__(self, other: Self) -> Self:
        num_images = self.num_images + other.num_images
        return self.from_numpy(self.confusion + other.confusion, num_images)


def compute_errors(confusion: CountArray) -> CountArray:
    """Return true positives, false positives and false negatives, int64 (classes, 3)."""
    hits = np.diagonal(confusion)
    return np.stack((hits, confusion.sum(0) - hits, confusion.sum(1) - hits), axis=1)


def count_confusion(
    prediction: npt.NDArray[np.uint8], mask: npt.NDArray[np.uint8], num_classes: int
) -> CountArray:
    """Count the pixels of two label maps of any one shape; void in the mask counts nowhere.

    Returns:
        int64 (classes, classes); row = true class, column = predicted class.

    Raises:
        DataError: A mask value is neither a class nor void.
    """
    if prediction.shape != mask.shape:
        raise ValueError(f"prediction {prediction.shape} and mask {mask.shape} differ in size")
    if prediction.size and prediction.max() >= num_classes:
        raise ValueError(f"prediction holds {prediction.max()}, not one of {num_classes} classes")
    # One bin per (mask value, class), void included: faster than picking the valid pixels first.
    bins = mask.astype(np.int64) * num_classes + prediction
    table = np.bincount(bins.ravel(), minlength=(VOID + 1) * num_classes)
    table = table.reshape(VOID + 1, num_classes)
    if table[num_classes:VOID].any():
        values = num_classes + np.flatnonzero(table[num_classes:VOID].any(axis=1))
        raise DataError(
            f"A mask holds the values {', '.join(map(str, values))}, but there are "
            f"{num_classes} classes (0 to {num_classes - 1}) and void ({VOID})."
        )
    return table[:num_classes]
