"""Counts of each picture: what comparisons, intervals and rankings are computed from."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from atrous.errors import DataError
from atrous.evaluation.counts import CountArray
from atrous.evaluation.metrics import FloatArray, compute_miou
from atrous.parsing import parse_json


@dataclass(frozen=True)
class ImageCounts:
    """True positives, false positives and false negatives per picture and class.

    Attributes:
        names: File stems of the pictures.
        counts: int64 (images, classes, 3), in pixels.
    """

    names: tuple[str, ...]
    counts: CountArray

    def compute_miou(self) -> FloatArray:
        """Return the mIoU of each picture, float64 (images,).

        The mean goes over the classes that occur in the picture's mask. A picture without a
        labelled pixel has NaN.
        """
        return compute_miou(self.counts)


def format_image_counts(name: str, counts: CountArray) -> bytes:
    """Write one picture as a line: its name and, for each class in it, [tp, fp, fn]."""
    occurring = np.flatnonzero(counts.any(axis=1)).tolist()
    line = {"name": name, "counts": {str(index): counts[index].tolist() for index in occurring}}
    return json.dumps(line).encode() + b"\n"


def load_image_counts(path: Path, num_classes: int) -> ImageCounts:
    """Read the lines of `format_image_counts`.

    Raises:
        DataError: The file is missing, or not such a file.
    """
    try:
        lines = [parse_json(line) for line in path.read_bytes().splitlines()]
        counts = np.zeros((len(lines), num_classes, 3), dtype=np.int64)
        for image, line in enumerate(lines):
            for index, errors in line["counts"].items():
                counts[image, int(index)] = errors
        return ImageCounts(tuple(line["name"] for line in lines), counts)
    except (OSError, ValueError, KeyError, IndexError, TypeError) as error:
        raise DataError(
            f"The counts per picture cannot be read from {path}: {error}. Evaluate again: "
            "`atrous evaluate RUN`."
        ) from error
