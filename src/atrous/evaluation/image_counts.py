"""Counts per image: the input of comparisons, intervals and rankings."""

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
    """File stems of images, and their tp, fp and fn in pixels, int64 (images, classes, 3)."""

    names: tuple[str, ...]
    counts: CountArray

    def compute_miou(self) -> FloatArray:
        """Return the mIoU of each image, float64 (images,); NaN without a labelled pixel."""
        return compute_miou(self.counts)


def format_image_counts(name: str, counts: CountArray) -> bytes:
    """Format one image as a JSON line: its name and [tp, fp, fn] of each class in it."""
    occurring = np.flatnonzero(counts.any(axis=1)).tolist()
    line = {"name": name, "counts": {str(index): counts[index].tolist() for index in occurring}}
    return json.dumps(line).encode() + b"\n"


def load_image_counts(path: Path, num_classes: int) -> ImageCounts:
    """Load a file of the lines that `format_image_counts` returns; raises DataError."""
    try:
        lines = [parse_json(line) for line in path.read_bytes().splitlines()]
        counts = np.zeros((len(lines), num_classes, 3), dtype=np.int64)
        for image, line in enumerate(lines):
            for index, tp_fp_fn in line["counts"].items():
                counts[image, int(index)] = tp_fp_fn
        return ImageCounts(tuple(line["name"] for line in lines), counts)
    except (OSError, ValueError, KeyError, IndexError, TypeError) as error:
        raise DataError(
            f"The counts per image cannot be read from {path}: {error}. Evaluate again: "
            "`atrous evaluate RUN`."
        ) from error
