"""How far a model's own confidence can be trusted."""

from dataclasses import dataclass

import numpy as np
from torch import Tensor

from atrous.classes import VOID
from atrous.engines.logits import compute_confidence
from atrous.errors import DataError
from atrous.evaluation.counts import CountArray
from atrous.evaluation.metrics import compute_miou

COVERAGES = (1.0, 0.98, 0.95, 0.9, 0.8, 0.7, 0.6, 0.5)
NUM_BINS = 15
_FINE_PER_BIN = 64


@dataclass(frozen=True)
class ConfidenceBin:
    """Pixels whose confidence lies from `low` to below `high`; means are None without pixels.

    Attributes:
        confidence: Mean confidence of the pixels.
        accuracy: Share of the pixels that are right.
    """

    low: float
    high: float
    pixels: int
    confidence: float | None
    accuracy: float | None


@dataclass(frozen=True)
class RiskCoverage:
    """Scores of the share `coverage` of pixels that the model is surest of."""

    coverage: float
    miou: float
    pixel_accuracy: float


@dataclass(frozen=True)
class ConfidenceScores:
    """How far confidence can be trusted.

    Attributes:
        ece: Expected calibration error: mean of |accuracy - confidence| over the bins, weighted
            by their pixels.
        temperature: What logits were divided by before the softmax.
        bins: Points of the reliability diagram.
        risk_coverage: What remains if the least sure pixels are left out. mIoU is the mean over
            the classes that the remaining labelled pixels hold.
    """

    ece: float
    temperature: float
    bins: tuple[ConfidenceBin, ...]
    risk_coverage: tuple[RiskCoverage, ...]


class ConfidenceCounts:
    """Adds up hits and misses by confidence, picture by picture, in constant memory.

    Confidence is the largest softmax probability. It is kept in 960 equal bins, of which 64 make
    one of the 15 of the reliability diagram (Guo et al. 2017, arXiv:1706.04599); where a coverage
    ends within a fine bin, that bin's pixels count in proportion.

    Args:
        num_classes: Classes of the masks.
        temperature: Divides the logits.
    """

    def __init__(self, num_classes: int, *, temperature: float = 1.0) -> None:
        self.num_classes = num_classes
        self.temperature = temperature
        num_fine = NUM_BINS * _FINE_PER_BIN
        self._errors: CountArray = np.zeros((num_fine, num_classes, 3), np.int64)
        self._confidence = np.zeros(num_fine)

    def update(self, logits: Tensor, prediction: Tensor, mask: Tensor) -> None:
        """Count one picture.

        Shapes:
            logits: float (classes, H, W)
            prediction: uint8 (H, W), class indices
            mask: uint8 (H, W), class indices, void 255
        """
        labelled = mask.cpu().numpy() != VOID
        truth = mask.cpu().numpy()[labelled].astype(np.int64)
        found = prediction.cpu().numpy()[labelled].astype(np.int64)
        confidence = compute_confidence(logits, self.temperature).cpu().numpy()[labelled]
        num_fine = len(self._confidence)
        bins = np.minimum((confidence * num_fine).astype(np.int64), num_fine - 1)
        self._confidence += np.bincount(bins, weights=confidence, minlength=num_fine)
        first = bins * self.num_classes
        size = num_fine * self.num_classes
        hits, of_found, of_truth = (
            np.bincount(places, minlength=size).reshape(num_fine, self.num_classes)
            for places in ((first + truth)[found == truth], first + found, first + truth)
        )
        self._errors += np.stack((hits, of_found - hits, of_truth - hits), axis=-1)

    def compute(self) -> ConfidenceScores:
        """Return the scores of all pictures counted so far.

        Raises:
            DataError: There was no labelled pixel.
        """
        pixels = self._errors[..., [0, 2]].sum(axis=(1, 2))
        if not pixels.any():
            raise DataError("There is nothing to score: no mask has a labelled pixel.")
        by_bin = (NUM_BINS, _FINE_PER_BIN)
        in_bin = pixels.reshape(by_bin).sum(axis=1)
        hits = self._errors[..., 0].sum(axis=1).reshape(by_bin).sum(axis=1)
        confidence = self._confidence.reshape(by_bin).sum(axis=1)
        bins = tuple(
            ConfidenceBin(
                low=index / NUM_BINS,
                high=(index + 1) / NUM_BINS,
                pixels=int(count),
                confidence=float(confidence[index] / count) if count else None,
                accuracy=float(hits[index] / count) if count else None,
            )
            for index, count in enumerate(in_bin)
        )
        return ConfidenceScores(
            ece=float(np.abs(hits - confidence).sum() / pixels.sum()),
            temperature=self.temperature,
            bins=bins,
            risk_coverage=tuple(self._keep_surest(coverage, pixels) for coverage in COVERAGES),
        )

    def _keep_surest(self, coverage: float, pixels: np.ndarray) -> RiskCoverage:
        surer = np.cumsum(pixels[::-1])[::-1] - pixels
        room = coverage * pixels.sum() - surer
        share = np.clip(room / np.maximum(pixels, 1), 0, 1)
        errors = np.tensordot(share, self._errors, axes=1)
        accuracy = errors[:, 0].sum() / errors[:, [0, 2]].sum()
        return RiskCoverage(coverage, float(compute_miou(errors)), float(accuracy))
