"""Pixels per class of a split, and the class weights that follow from them."""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from statistics import median
from typing import Literal

import numpy as np

from atrous.classes import IGNORE_INDEX
from atrous.data.dataset import SegmentationDataset
from atrous.data.mask_values import describe_wrong_values, find_wrong_values, mark_ignored
from atrous.data.sample import check_same_size, read_image, read_indices, shorten
from atrous.errors import ConfigError, DataError, did_you_mean

WeightMethod = Literal["none", "inverse", "median_frequency"]
_METHODS = ("none", "inverse", "median_frequency")


@dataclass(frozen=True)
class MaskStatistics:
    """Counts over all masks of a split.

    Attributes:
        pixels: Per class, its pixels.
        pixels_where_present: Per class, all pixels that are not void of the images it occurs in.
        num_void: Pixels without a class.
    """

    pixels: list[int]
    pixels_where_present: list[int]
    num_void: int


def compute_mask_statistics(
    dataset: SegmentationDataset, progress: Callable[[int, int], None] | None = None
) -> MaskStatistics:
    """Read all masks and images of a split, so that what is wrong is found before training.

    Args:
        dataset: The split.
        progress: Called after each mask with how many are done and how many there are.

    Raises:
        DataError: Files cannot be used; one message for all of them, with the first files.
    """
    num_classes = len(dataset.classes)
    histogram = np.zeros(IGNORE_INDEX + 1, dtype=np.int64)
    where_present = np.zeros(num_classes, dtype=np.int64)
    wrong: dict[str, list[int]] = {}
    unusable: dict[str, str] = {}

    def count(index: int) -> np.ndarray | list[int] | str:
        return _count(dataset, index)

    with ExitStack() as stack:
        pool = ThreadPoolExecutor(os.cpu_count())
        stack.callback(pool.shutdown, cancel_futures=True)  # an error waits for no other mask
        for index, result in enumerate(pool.map(count, range(len(dataset)))):
            name = dataset.mask_paths[index].name
            if isinstance(result, str):
                unusable[name] = result
            elif isinstance(result, list):
                wrong[name] = result
            else:
                histogram += result
                present = result[:num_classes] > 0
                where_present[present] += result[:num_classes].sum()
            if progress is not None:
                progress(index + 1, len(dataset))
    _raise_problems(dataset, wrong, unusable)
    return MaskStatistics(
        pixels=histogram[:num_classes].tolist(),
        pixels_where_present=where_present.tolist(),
        num_void=int(histogram[IGNORE_INDEX]),
    )


def compute_class_weights(statistics: MaskStatistics, method: WeightMethod) -> list[float] | None:
    """Return one loss weight per class, or None for `none`.

    `inverse` is 1 / pixels, scaled so that the weights of the classes present have mean 1.
    `median_frequency` is median(frequency) / frequency, where the frequency of a class is its
    share of the pixels of those images in which it occurs. A class that never occurs has weight
    0 in both and no part in the mean or median.

    Raises:
        ConfigError: The method is unknown.

    Source: Eigen & Fergus 2015, arXiv:1411.4734, section 6.3.2, as used by SegNet.
    """
    if method not in _METHODS:
        raise ConfigError(f"Unknown class weights '{method}'.{did_you_mean(method, _METHODS)}")
    if method == "none":
        return None
    if method == "inverse":
        frequencies = [float(pixels) for pixels in statistics.pixels]
    else:
        frequencies = [
            pixels / max(around, 1)
            for pixels, around in zip(
                statistics.pixels, statistics.pixels_where_present, strict=True
            )
        ]
    present = [frequency for frequency in frequencies if frequency > 0]
    if not present:
        raise DataError("Class weights need masks with classes, and every pixel here is void.")
    if method == "inverse":
        scale = len(present) / sum(1 / frequency for frequency in present)
    else:
        scale = median(present)
    return [scale / frequency if frequency > 0 else 0.0 for frequency in frequencies]


def check_foreground(dataset: SegmentationDataset, statistics: MaskStatistics) -> None:
    """Refuse training masks of 0 and 255 alone: with 255 as void, only class 0 is left.

    Raises:
        DataError: The masks are of this kind.
    """
    is_binary = statistics.pixels[0] and statistics.num_void and not any(statistics.pixels[1:])
    if is_binary and dataset.ignore_index == IGNORE_INDEX:
        raise DataError(
            f"All {len(dataset)} masks of split '{dataset.split}' in "
            f"{dataset.mask_paths[0].parent} hold 0 and 255 only, and 255 is void: only class 0 "
            "would be left to learn. If 255 marks the foreground, write 1 instead: "
            f"`atrous check {dataset.root} --fix DIR` does."
        )


def check_labelled(dataset: SegmentationDataset, statistics: MaskStatistics) -> None:
    """Refuse a split of which nothing could be learned or scored: all of its pixels are ignored.

    Raises:
        DataError: No pixel of the split has a class.
    """
    if not any(statistics.pixels):
        raise DataError(
            f"Split '{dataset.split}' has no labelled pixel: all {len(dataset)} masks in "
            f"{dataset.mask_paths[0].parent} hold nothing but ignored pixels "
            f"({dataset.ignore_index}). Label some of its images, choose another split, or correct "
            "the ignore index if that value is a class."
        )


def _count(dataset: SegmentationDataset, index: int) -> np.ndarray | list[int] | str:
    """Return the histogram of one mask, ignored at 255; or its wrong values; or what is wrong."""
    image_path, mask_path = dataset.image_paths[index], dataset.mask_paths[index]
    try:
        indices = read_indices(mask_path)
        image = read_image(image_path)
        check_same_size((image.shape[1], image.shape[2]), indices.shape, image_path, mask_path)
    except DataError as error:
        return str(error)
    if values := find_wrong_values(indices, len(dataset.classes), dataset.ignore_index):
        return values
    return np.bincount(
        mark_ignored(indices, dataset.ignore_index).ravel(), minlength=IGNORE_INDEX + 1
    )


def _raise_problems(
    dataset: SegmentationDataset, wrong: dict[str, list[int]], unusable: dict[str, str]
) -> None:
    total = f"of the {len(dataset)} masks of split '{dataset.split}' in "
    total += str(dataset.mask_paths[0].parent)
    if wrong:
        values = sorted({value for found in wrong.values() for value in found})
        raise DataError(
            f"{len(wrong)} {total} ({shorten(list(wrong), 5)}) have values that are no class: "
            f"{describe_wrong_values(values, len(dataset.classes), dataset.ignore_index)} "
            f"{_point_to_doctor(dataset)}"
        )
    if unusable:
        raise DataError(
            f"{len(unusable)} of the {len(dataset)} pairs of image and mask of split "
            f"'{dataset.split}' cannot be used: {shorten(list(unusable), 5)}. "
            f"The first: {next(iter(unusable.values()))} {_point_to_doctor(dataset)}"
        )


def _point_to_doctor(dataset: SegmentationDataset) -> str:
    return f"`atrous check {dataset.root}` shows everything that is wrong."
