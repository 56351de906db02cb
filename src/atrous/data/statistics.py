"""Pixel counts per class of a split, and class weights."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from statistics import median
from typing import Literal, get_args

import numpy as np

from atrous.classes import IGNORE_INDEX
from atrous.data.band_statistics import draw_pixels
from atrous.data.dataset import SegmentationDataset
from atrous.data.mask_values import describe_wrong_values, find_wrong_values, mark_ignored
from atrous.errors import ConfigError, DataError, did_you_mean, shorten
from atrous.images.arrays import describe_bands, open_array
from atrous.images.reading import check_same_size, read_image, read_indices
from atrous.images.shard_file import File
from atrous.timing import count_cores

WeightMethod = Literal["none", "inverse", "median_frequency"]
_METHODS = get_args(WeightMethod)
_MIN_DRAWN, _MAX_DRAWN = 64, 2**21
"""Pixels drawn per image at least, and from all images together."""


@dataclass(frozen=True)
class MaskStatistics:
    """Pixel counts over all masks of a split.

    Attributes:
        pixels: Number of pixels per class.
        pixels_where_present: For each class, the labelled pixels of the images it occurs in.
        num_ignored: Number of ignored pixels.
        num_without_data: Number of pixels without data, which are among the ignored ones.
        depth: Bands of the images and type of their numbers; the same for all images.
        samples: Values of pixels drawn from all images, float32 (pixels, bands); None for 8-bit
            RGB.
    """

    pixels: list[int]
    pixels_where_present: list[int]
    num_ignored: int
    num_without_data: int = 0
    samples: np.ndarray | None = None
    depth: str = field(default="", compare=False)


@dataclass
class _Tally:
    """Facts of some pairs, in their order: sums, drawn values, first image of a depth, problems."""

    histogram: np.ndarray = field(default_factory=partial(np.zeros, IGNORE_INDEX + 1, np.int64))
    where_present: np.ndarray = field(default_factory=partial(np.zeros, IGNORE_INDEX + 1, np.int64))
    num_without_data: int = 0
    samples: list[np.ndarray] = field(default_factory=list)
    depths: dict[str, File] = field(default_factory=dict)
    wrong: dict[str, list[int]] = field(default_factory=dict)
    unusable: dict[str, str] = field(default_factory=dict)

    def add(self, other: "_Tally") -> None:
        """Add the facts of the pairs that follow."""
        self.histogram += other.histogram
        self.where_present += other.where_present
        self.num_without_data += other.num_without_data
        self.samples += other.samples
        self.depths = self.depths | other.depths | self.depths  # the first of each
        self.wrong |= other.wrong
        self.unusable |= other.unusable


def compute_mask_statistics(
    dataset: SegmentationDataset,
    progress: Callable[[int, int], None] | None = None,
    *,
    rank: int = 0,
    size: int = 1,
    gather: Callable[[_Tally], list[_Tally]] = lambda tally: [tally],
) -> MaskStatistics:
    """Read all images and masks of a split, which finds errors before training.

    A cache of the dataset is filled on the way.

    Several processes can read a share each; all of them get the statistics, or the error, of the
    whole split, if `gather` returns the values of all processes in the order of their ranks.

    Raises:
        DataError: Files cannot be used; one message for all, which names the first of them.
    """
    first, end = (len(dataset) * index // size for index in (rank, rank + 1))
    tally, *others = gather(_tally(dataset, range(first, end), progress))
    for other in others:
        tally.add(other)
    _raise_problems(dataset, tally)
    num_classes = len(dataset.classes)
    return MaskStatistics(
        pixels=tally.histogram[:num_classes].tolist(),
        pixels_where_present=tally.where_present[:num_classes].tolist(),
        num_ignored=int(tally.histogram[IGNORE_INDEX]),
        num_without_data=tally.num_without_data,
        samples=np.concatenate(tally.samples) if tally.samples else None,
        depth=next(iter(tally.depths), ""),
    )


def compute_class_weights(statistics: MaskStatistics, method: WeightMethod) -> list[float] | None:
    """Return one loss weight per class, or None for `none`.

    `inverse` is 1 / pixels, scaled so that the weights of the classes present have mean 1.
    `median_frequency` is median(frequency) / frequency, where the frequency of a class is its
    share of the labelled pixels of those images in which it occurs. A class that does not occur has
    weight 0 and is excluded from the mean and the median.

    Raises:
        ConfigError: The method is unknown.
        DataError: No class occurs.

    Source: Eigen & Fergus 2015, arXiv:1411.4734, section 6.3.2, as used by SegNet.
    """
    if method not in _METHODS:
        raise ConfigError(f"Unknown class weights '{method}'.{did_you_mean(method, _METHODS)}")
    if method == "none":
        return None
    is_inverse = method == "inverse"
    frequencies = [
        pixels / (1 if is_inverse else max(total, 1))
        for pixels, total in zip(statistics.pixels, statistics.pixels_where_present, strict=True)
    ]
    present = [frequency for frequency in frequencies if frequency > 0]
    if not present:
        raise DataError("Class weights need labelled pixels, and every pixel is ignored.")
    scale = len(present) / sum(1 / f for f in present) if is_inverse else median(present)
    return [scale / frequency if frequency > 0 else 0.0 for frequency in frequencies]


def check_foreground(dataset: SegmentationDataset, statistics: MaskStatistics) -> None:
    """Check that the training masks are not binary masks whose foreground is the ignore index.

    Raises:
        DataError: All masks contain only 0 and 255, and 255 is the ignore index.
    """
    is_binary = statistics.pixels[0] and statistics.num_ignored and not any(statistics.pixels[1:])
    if is_binary and dataset.selection is None and dataset.ignore_index == IGNORE_INDEX:
        raise DataError(
            f"All {len(dataset)} masks of split '{dataset.split}' in "
            f"{dataset.mask_paths[0].parent} hold 0 and 255 only, and 255 is ignored: class 0 is "
            "the only class to learn. If 255 marks the foreground, write 1 instead; "
            f"`atrous check {dataset.root} --fix DIR` does so."
        )


def check_labelled(dataset: SegmentationDataset, statistics: MaskStatistics) -> None:
    """Check that a split has labelled pixels.

    Raises:
        DataError: All pixels of the split are ignored.
    """
    if not any(statistics.pixels):
        raise DataError(
            f"Split '{dataset.split}' has no labelled pixel: all {len(dataset)} masks in "
            f"{dataset.mask_paths[0].parent} hold only ignored pixels ({dataset.ignore_index}). "
            "Label some of its images, choose another split, or correct the ignore index if that "
            "value is a class."
        )


def _tally(
    dataset: SegmentationDataset, indices: range, progress: Callable[[int, int], None] | None
) -> _Tally:
    tally = _Tally()
    with ExitStack() as stack:
        pool = ThreadPoolExecutor(count_cores())
        stack.callback(pool.shutdown, cancel_futures=True)  # on an error, skip the other masks
        for num_done, one in enumerate(pool.map(partial(_count, dataset), indices), start=1):
            tally.add(one)
            if progress is not None:
                progress(num_done, len(indices))
    return tally


def _count(dataset: SegmentationDataset, index: int) -> _Tally:
    image_path, mask_path = dataset.image_paths[index], dataset.mask_paths[index]
    try:
        indices = read_indices(mask_path)
        image = read_image(image_path, bands=dataset.bands)
        check_same_size((image.shape[1], image.shape[2]), indices.shape, image_path, mask_path)
    except DataError as error:
        return _Tally(unusable={mask_path.name: str(error)})
    if values := find_wrong_values(indices, dataset.num_mask_classes, dataset.ignore_index):
        return _Tally(wrong={mask_path.name: values})
    selected = dataset.select_indices(mark_ignored(indices, dataset.ignore_index))
    tally = _Tally(depths={describe_bands(open_array(image_path, str(image_path))): image_path})
    if dataset.bands is not None:
        pixels = image.numpy()
        invalid = np.isnan(pixels[0])
        selected = np.where(invalid, np.uint8(IGNORE_INDEX), selected)
        num_drawn = max(_MIN_DRAWN, _MAX_DRAWN // len(dataset))
        tally.samples.append(draw_pixels(pixels, num_drawn, seed=index))
        tally.num_without_data = int(invalid.sum())
    elif dataset.cache is not None and not dataset.cache.has(image_path, mask_path):
        dataset.cache.save(image_path, mask_path, image, image.new_tensor(selected))
    tally.histogram += np.bincount(selected.ravel(), minlength=IGNORE_INDEX + 1)
    tally.where_present[tally.histogram > 0] = tally.histogram[:IGNORE_INDEX].sum()
    return tally


def _raise_problems(dataset: SegmentationDataset, tally: _Tally) -> None:
    wrong, unusable = tally.wrong, tally.unusable
    advice = f"`atrous check {dataset.root}` lists all problems."
    if wrong:
        values = sorted({value for found in wrong.values() for value in found})
        raise DataError(
            f"{len(wrong)} of the {len(dataset)} masks of split '{dataset.split}' in "
            f"{dataset.mask_paths[0].parent} ({shorten(list(wrong), 5)}) have values that are no "
            "class: "
            f"{describe_wrong_values(values, dataset.num_mask_classes, dataset.ignore_index)} "
            f"{advice}"
        )
    if unusable:
        raise DataError(
            f"{len(unusable)} of the {len(dataset)} pairs of image and mask of split "
            f"'{dataset.split}' cannot be used: {shorten(list(unusable), 5)}. "
            f"The first: {next(iter(unusable.values()))} {advice}"
        )
    if len(tally.depths) > 1:
        listed = ", ".join(f"{path} holds {depth}" for depth, path in tally.depths.items())
        raise DataError(
            f"The images of split '{dataset.split}' are of different kinds: {listed}. Their values "
            "cannot have the same range: export all of them in one way."
        )
