"""The gate: an exported file beside its original on real images."""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch

from atrous.data import Sample, SegmentationDataset
from atrous.engines import TorchEngine
from atrous.engines.exported import ExportedEngine
from atrous.engines.logits import compute_mask
from atrous.errors import DataError
from atrous.evaluation import Counts, compute_scores

MAX_LOGIT_DIFFERENCE = 1e-3
MIN_AGREEMENT = 0.9999
MAX_MIOU_DROP = {"bf16": 0.002, "int8": 0.005}

Progress = Callable[[int, int], object]


@dataclass(frozen=True)
class GateResult:
    """What the gate found for one precision.

    Attributes:
        precision: `32`, `bf16` or `int8`.
        passed: Whether it is within the tolerance.
        tolerance: What was asked for, in words.
        max_logit_difference: Largest difference of a logit; None of a file that gives masks.
        max_relative_difference: The same, as a share of the original's largest logit.
        pixel_agreement: Share of the pixels with the same class.
        miou_original: mIoU of the original on the images of the gate.
        miou_exported: That of the exported file.
        num_images: How many images those were.
        worst_image: The image on which most pixels of one class differ; with none, the logits.
        worst_class: That class, as the original predicts it.
        seconds_original: Mean time of the original for an image.
        seconds_exported: That of the exported file. Both as measured in passing.
    """

    precision: str
    passed: bool
    tolerance: str
    max_logit_difference: float | None
    max_relative_difference: float | None
    pixel_agreement: float
    miou_original: float
    miou_exported: float
    num_images: int
    worst_image: str
    worst_class: str
    seconds_original: float
    seconds_exported: float

    def to_json(self) -> dict[str, Any]:
        """Return plain values for a JSON file."""
        return {
            key: str(value) if isinstance(value, float) and not math.isfinite(value) else value
            for key, value in asdict(self).items()
        }

    def describe(self) -> str:
        """Return what was found, as one clause."""
        logits = ""
        if self.max_logit_difference is not None:
            logits = (
                f"the logits differ by up to {self.max_logit_difference:.2g} "
                f"({self.max_relative_difference:.1e} of the largest), "
            )
        return (
            f"{logits}{self.pixel_agreement:.4%} of the pixels agree, and mIoU is "
            f"{self.miou_exported:.4f} where the original has {self.miou_original:.4f}"
        )


class _Comparison:
    """Adds up what one engine does beside the original."""

    def __init__(self, engine: ExportedEngine, num_classes: int) -> None:
        self.engine = engine
        self.counts = Counts(num_classes)
        self.largest_difference = 0.0
        self.worst: tuple[int, float, int, str] = (0, 0.0, 0, "")
        self.num_equal = self.num_pixels = 0
        self.seconds = 0.0

    def update(self, sample: Sample, logits: torch.Tensor) -> None:
        start_s = time.perf_counter()
        differences = torch.zeros(len(logits))
        if self.engine.export.mask_output:
            found = self.engine.predict_mask(sample.image)
        else:
            ours = self.engine.compute_logits(sample.image)
            found = compute_mask(ours)
            differences = (ours - logits).abs().amax(dim=(1, 2))
            difference = float(differences.max())
            # A NaN would get lost in max(): nothing compares with it.
            known = self.largest_difference
            self.largest_difference = difference if not difference <= known else known
        self.seconds += time.perf_counter() - start_s
        expected = compute_mask(logits)
        differs = found != expected
        self.num_equal += differs.numel() - int(differs.sum())
        self.num_pixels += differs.numel()
        self.counts.update(found, sample.mask)
        by_class = torch.bincount(expected[differs].long(), minlength=len(logits)).tolist()
        for index, one in enumerate(zip(by_class, differences.tolist(), strict=True)):
            self.worst = max(self.worst, (*one, index, sample.name))


def run_gate(
    original: TorchEngine,
    exported: Mapping[str, ExportedEngine],
    dataset: SegmentationDataset,
    *,
    num_images: int | None = None,
    progress: Progress | None = None,
) -> dict[str, GateResult]:
    """Compare exported files with their original on real images.

    Tolerances: in full precision logits within 1e-3 and 99.99 % of the pixels; in bf16 a mIoU
    lower by at most 0.2 points, in int8 by at most 0.5.

    Args:
        original: In full precision, with the test-time augmentation of the others.
        exported: The engines to check, by precision.
        dataset: Split to compare on.
        num_images: How many of its images, spread evenly; None for all.
        progress: Called after each image with the number of images done and of all.

    Returns:
        The results by precision.

    Raises:
        DataError: A file cannot be used, or no mask has a labelled pixel.
    """
    indices = spread_indices(len(dataset), num_images)
    num_classes = len(dataset.classes)
    comparisons = {name: _Comparison(engine, num_classes) for name, engine in exported.items()}
    counts, largest, seconds = Counts(num_classes), 0.0, 0.0
    for num_done, index in enumerate(indices, start=1):
        sample = dataset.load(index)
        start_s = time.perf_counter()
        logits = original.compute_logits(sample.image)
        seconds += time.perf_counter() - start_s
        largest = max(largest, float(logits.abs().max()))
        counts.update(compute_mask(logits), sample.mask)
        for comparison in comparisons.values():
            comparison.update(sample, logits)
        if progress is not None:
            progress(num_done, len(indices))
    if not counts.confusion.any():
        raise DataError(
            f"The gate cannot be run on split '{dataset.split}' of {dataset.root}: no mask of its "
            f"{len(indices)} images has a labelled pixel. Give another split or more images."
        )
    miou = compute_scores(counts, dataset.classes).miou
    return {
        name: _judge(name, comparison, dataset, miou, largest, seconds / len(indices))
        for name, comparison in comparisons.items()
    }


def spread_indices(num_all: int, num_wanted: int | None) -> list[int]:
    """Return positions spread evenly over a split; all of them where fewer are not asked for."""
    num_chosen = num_all if num_wanted is None else min(num_wanted, num_all)
    return [index * num_all // num_chosen for index in range(num_chosen)]


def _judge(
    precision: str,
    comparison: _Comparison,
    dataset: SegmentationDataset,
    miou_original: float,
    largest_logit: float,
    seconds_original: float,
) -> GateResult:
    agreement = comparison.num_equal / comparison.num_pixels
    miou = compute_scores(comparison.counts, dataset.classes).miou
    gives_masks = comparison.engine.export.mask_output
    difference = None if gives_masks else comparison.largest_difference
    finite = difference is None or math.isfinite(difference)
    if precision in MAX_MIOU_DROP:
        max_drop = MAX_MIOU_DROP[precision]
        passed = finite and miou_original - miou <= max_drop
        tolerance = f"mIoU lower by at most {100 * max_drop:g} points"
    else:
        passed = agreement >= MIN_AGREEMENT
        tolerance = f"{MIN_AGREEMENT:.2%} of the pixels"
        if difference is not None:
            passed = passed and difference <= MAX_LOGIT_DIFFERENCE
            tolerance = f"logits within {MAX_LOGIT_DIFFERENCE:g} and {tolerance}"
    return GateResult(
        precision=precision,
        passed=passed,
        tolerance=tolerance,
        max_logit_difference=difference,
        max_relative_difference=None if difference is None else difference / largest_logit,
        pixel_agreement=agreement,
        miou_original=miou_original,
        miou_exported=miou,
        num_images=comparison.counts.num_images,
        worst_image=comparison.worst[3],
        worst_class=dataset.classes.names[comparison.worst[2]],
        seconds_original=seconds_original,
        seconds_exported=comparison.seconds / comparison.counts.num_images,
    )
