"""Masks as COCO's run-length encoding, one entry per class."""

from typing import Any

import numpy as np
import numpy.typing as npt

from atrous.classes import Classes

Indices = npt.NDArray[np.uint8]


def encode_classes(mask: Indices, classes: Classes) -> list[dict[str, Any]]:
    """Return an annotation for each class in a mask, in the form of COCO's results.

    `segmentation` is what `pycocotools.mask.decode` takes: the lengths of runs of pixels outside
    and inside by turns, counted column by column, as a compressed string.

    Shapes:
        mask: uint8 (H, W), class indices, void 255

    Source: Lin et al. 2014, arXiv:1405.0312; the form of the string is that of `cocoapi`.
    """
    pixels = mask.ravel(order="F")
    starts = np.concatenate([[0], np.flatnonzero(pixels[1:] != pixels[:-1]) + 1])
    lengths = np.diff(starts, append=len(pixels))
    values = pixels[starts]
    annotations = []
    for index in np.unique(values[values < len(classes)]).tolist():
        own = values == index
        counts = compute_counts(starts[own], lengths[own], len(pixels))
        annotations.append(
            {
                "category_id": index,
                "category": classes.names[index],
                "area": int(lengths[own].sum()),
                "segmentation": {"size": list(mask.shape), "counts": compress_counts(counts)},
            }
        )
    return annotations


def compute_counts(
    starts: npt.NDArray[np.int64], lengths: npt.NDArray[np.int64], num_pixels: int
) -> npt.NDArray[np.int64]:
    """Return the lengths of runs outside and inside by turns, the first one outside."""
    bounds = np.stack([starts, starts + lengths], axis=1).ravel()
    counts = np.diff(bounds, prepend=0, append=num_pixels)
    return counts[:-1] if counts[-1] == 0 else counts


def compress_counts(counts: npt.NDArray[np.int64]) -> str:
    """Return run lengths as COCO's string: 5 bits a letter, from the third on as differences."""
    left = counts.copy()
    left[3:] -= counts[1:-2]
    letters, used = [], []
    more = np.ones(len(left), np.bool_)
    while more.any():
        used.append(more)
        bits = left & 31
        left = left >> 5
        more = more & np.where(bits & 16, left != -1, left != 0)
        letters.append(bits + 32 * more + 48)
    return np.stack(letters, 1)[np.stack(used, 1)].astype(np.uint8).tobytes().decode("ascii")
