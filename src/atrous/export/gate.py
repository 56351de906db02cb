"""The gate: compares an exported file with its original on real images."""

import math
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch

from atrous.data import Sample, SegmentationDataset
from atrous.engines import TorchEngine
from atrous.engines.exported_engine import ExportedEngine
from atrous.engines.logits import compute_mask
from atrous.errors import DataError
from atrous.evaluation import Counts, compute_scores
from atrous.evaluation.evaluator import Progress

MAX_LOGIT_DIFFERENCE = 1e-3
MIN_AGREEMENT = 0.9999
MAX_MIOU_DROP = {"bf16": 0.002, "int8": 0.005}


@dataclass(frozen=True)
class GateResult:
    """The result of the gate for one precision.

    Attributes:
        precision: `32`, `bf16` or `int8`.
        tolerance: The tolerance in words.
        max_logit_difference: Largest difference of a logit; None for a file that returns masks.
        max_relative_difference: The same as a share of the original's largest logit.
        pixel_agreement: Share of the pixels with the same class.
        worst_image: Image on which most pixels of one class differ, or else the logits.
        worst_class: That class, as predicted by the original.
        seconds_original: Mean time of the original per image, measured during the comparison.
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
        """Return the result as values that JSON can hold."""
        return {
            key: str(value) if isinstance(value, float) and not math.isfinite(value) else value
            for key, value in asdict(self).items()
        }

    def describe(self) -> str:
        """Describe the differences in one clause."""
        logits = ""
        if self.max_logit_difference is not None:
            logits = (
                f"the logits differ by up to {self.max_logit_difference:.2g} "
                f"({self.max_relative_difference:.1e} of the largest), "
            )
        return (
            f"{logits}{self.pixel_agreement:.4%} of the pixels agree, and mIoU is "
            f"{self.miou_exported:.4f}, that of the original {self.miou_original:.4f}"
        )


class _Comparison:
    """Accumulates the differences of one engine from the original."""

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
            mask = self.engine.predict_mask(sample.image)
        else:
            exported = self.engine.compute_logits(sample.image)
            mask = compute_mask(exported)
            differences = (exported - logits).abs().amax(dim=(1, 2))
            # torch.maximum keeps NaN, unlike max().
            known = torch.tensor(self.largest_difference)
            self.largest_difference = float(torch.maximum(known, differences.max()))
        self.seconds += time.perf_counter() - start_s
        expected = compute_mask(logits)
        differs = mask != expected
        self.num_equal += differs.numel() - int(differs.sum())
        self.num_pixels += differs.numel()
        self.counts.update(mask, sample.mask)
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

    Tolerances: in float32, logits within 1e-3 and 99.99 % of the pixels; in bf16, a mIoU lower by
    at most 0.2 points; in int8, by at most 0.5 points.

    Args:
        original: The original in float32, with the test-time augmentation of the others.
        exported: The engines to check, by precision.
        num_images: Number of images, spread evenly over the split; None for all.
        progress: Called as `progress(done, total)` after each image.

    Returns:
        The results by precision.

    Raises:
        DataError: A file cannot be read, or no mask has a labelled pixel.
    """
    num_images = len(dataset) if num_images is None else min(num_images, len(dataset))
    indices = [index * len(dataset) // num_images for index in range(num_images)]
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
            progress(num_done, num_images)
    if not counts.confusion.any():
        raise DataError(
            f"The gate cannot use split '{dataset.split}' of {dataset.root}: no mask of its "
            f"{num_images} images has a labelled pixel. Give another split or more images."
        )
    miou = compute_scores(counts, dataset.classes).miou
    return {
        name: _judge(name, comparison, dataset, miou, largest, seconds / num_images)
        for name, comparison in comparisons.items()
    }


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
