"""Calibration and risk-coverage: how reliable the predicted confidence is."""

from dataclasses import dataclass
from typing import Annotated

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from atrous.classes import IGNORE_INDEX
from atrous.engines.logits import compute_confidence
from atrous.errors import DataError
from atrous.evaluation.counts import CountArray
from atrous.evaluation.metrics import compute_miou

COVERAGES = (1.0, 0.98, 0.95, 0.9, 0.8, 0.7, 0.6, 0.5)
NUM_BINS = 15
_FINE_PER_BIN = 64


@dataclass(frozen=True)
class ConfidenceBin:
    """Pixels with a confidence in [`low`, `high`): its mean, and the share that is correct."""

    low: float
    high: float
    pixels: int
    confidence: float | None
    accuracy: float | None


@dataclass(frozen=True)
class RiskCoverage:
    """Scores of the share `coverage` of pixels with the highest confidence."""

    coverage: float
    miou: float
    pixel_accuracy: float


@dataclass(frozen=True)
class ConfidenceScores:
    """Calibration and risk-coverage of a split.

    Attributes:
        ece: Expected calibration error: mean of |accuracy - confidence| over the bins, weighted
            by their pixels.
        temperature: Divisor of the logits before the softmax.
        risk_coverage: Scores without the least confident pixels, whose classes mIoU is over.
    """

    ece: float
    temperature: Annotated[float, Field(gt=0)]
    bins: tuple[ConfidenceBin, ...]
    risk_coverage: tuple[RiskCoverage, ...]


class ConfidenceCounts:
    """Accumulates counts by confidence, image by image, in constant memory.

    Confidence is the largest softmax probability. It is kept in 960 equal bins; 64 of them form
    one of the 15 bins of the reliability diagram (Guo et al. 2017, arXiv:1706.04599). Where a
    coverage ends within a fine bin, the pixels of that bin count in proportion.
    """

    def __init__(self, num_classes: int, *, temperature: float = 1.0) -> None:
        self.num_classes = num_classes
        self.temperature = temperature
        num_fine = NUM_BINS * _FINE_PER_BIN
        self._tp_fp_fn: CountArray = np.zeros((num_fine, num_classes, 3), np.int64)
        self._confidence = np.zeros(num_fine)

    def update(self, logits: Tensor, prediction: Tensor, mask: Tensor) -> None:
        """Count one image.

        Shapes:
            logits: float (classes, H, W)
            prediction, mask: uint8 (H, W), class indices; 255 is ignored in the mask
        """
        mask = mask.to(prediction.device)
        labelled = mask != IGNORE_INDEX
        confidence = compute_confidence(logits, self.temperature)
        num_fine = len(self._confidence)
        bins = (confidence * num_fine).int().clamp_max(num_fine - 1)
        weights = (confidence * labelled).double().flatten()
        sums = torch.bincount(bins.flatten(), weights=weights, minlength=num_fine)
        self._confidence += sums.cpu().numpy()
        ignored = self.num_classes  # a column of its own, which is left out
        num_columns = ignored + 1
        first = bins * num_columns
        tp, num_predicted, num_true = (
            torch.bincount((first + classes).flatten(), minlength=num_fine * num_columns).reshape(
                num_fine, num_columns
            )[:, :ignored]
            for classes in (
                torch.where(prediction == mask, mask, ignored),
                torch.where(labelled, prediction, ignored),
                torch.where(labelled, mask, ignored),
            )
        )
        counted = torch.stack((tp, num_predicted - tp, num_true - tp), dim=-1)
        self._tp_fp_fn += counted.cpu().numpy()

    def compute(self) -> ConfidenceScores:
        """Return the scores of all images counted so far; raises DataError without any pixel."""
        pixels = self._tp_fp_fn[..., [0, 2]].sum(axis=(1, 2))
        if not pixels.any():
            raise DataError("There is nothing to score: no mask has a labelled pixel.")
        by_bin = (NUM_BINS, _FINE_PER_BIN)
        in_bin = pixels.reshape(by_bin).sum(axis=1)
        correct = self._tp_fp_fn[..., 0].sum(axis=1).reshape(by_bin).sum(axis=1)
        confidence = self._confidence.reshape(by_bin).sum(axis=1)
        bins = tuple(
            ConfidenceBin(
                low=index / NUM_BINS,
                high=(index + 1) / NUM_BINS,
                pixels=int(count),
                confidence=float(confidence[index] / count) if count else None,
                accuracy=float(correct[index] / count) if count else None,
            )
            for index, count in enumerate(in_bin)
        )
        return ConfidenceScores(
            ece=float(np.abs(correct - confidence).sum() / pixels.sum()),
            temperature=self.temperature,
            bins=bins,
            risk_coverage=tuple(self._compute_risk(coverage, pixels) for coverage in COVERAGES),
        )

    def _compute_risk(self, coverage: float, pixels: np.ndarray) -> RiskCoverage:
        more_confident = np.cumsum(pixels[::-1])[::-1] - pixels
        remaining = coverage * pixels.sum() - more_confident
        share = np.clip(remaining / np.maximum(pixels, 1), 0, 1)
        tp_fp_fn = np.tensordot(share, self._tp_fp_fn, axes=1)
        accuracy = tp_fp_fn[:, 0].sum() / tp_fp_fn[:, [0, 2]].sum()
        return RiskCoverage(coverage, float(compute_miou(tp_fp_fn)), float(accuracy))
