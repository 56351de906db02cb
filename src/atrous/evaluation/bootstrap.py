"""Bootstrap intervals of scores and differences over resampled images."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from scipy.special import ndtr, ndtri, stdtr, stdtrit

from atrous.errors import ConfigError
from atrous.evaluation.counts import CountArray
from atrous.evaluation.metrics import FloatArray, average_ious, compute_ious

LEVEL = 0.95

MIN_RESAMPLES = 1000

MIN_IMAGES = 5
"""With fewer images there is no interval: its quantiles would lie beyond all resamples."""

_CHUNK_SIZE = 1_000_000  # (resamples, images) weights in memory at a time


@dataclass(frozen=True)
class Resamples:
    """mIoU, float64 (runs, resamples), and IoU, (runs, resamples, classes), the latter with NaN."""

    miou: FloatArray
    iou: FloatArray


@dataclass(frozen=True)
class Estimate:
    """A score and the ends of its 95 % interval; None for fewer than `MIN_IMAGES` images."""

    value: float
    low: float | None
    high: float | None
    _format_spec: ClassVar[str] = ".4f"

    def format_value(self) -> str:
        """Format the value, such as 0.5791."""
        return self._format(self.value)

    def format_interval(self) -> str:
        """Format the interval, such as `0.5688 to 0.5894`; a dash if there is none."""
        if self.low is None or self.high is None:
            return "–"
        return f"{self._format(self.low)} to {self._format(self.high)}"

    def _format(self, value: float) -> str:
        return f"{value:{self._format_spec}}".replace("-", "−")


@dataclass(frozen=True)
class Difference(Estimate):
    """A difference of two scores on the same images.

    `probability_above_0` is the share of the resamples with a difference above 0, ties counted
    half, with the small-sample correction of the interval: above 0.975 or below 0.025 exactly if
    the interval excludes 0.
    """

    probability_above_0: float | None
    _format_spec = "+.4f"

    @property
    def p_value(self) -> float:
        """Two-sided p-value."""
        above = self.probability_above_0
        return 1.0 if above is None else 2 * min(above, 1 - above)

    def format_probability(self) -> str:
        """Format the probability, never rounded to 0 or 1; a dash if there is none."""
        above = self.probability_above_0
        if above is None:
            return "–"
        if not 0.001 <= above <= 0.999:
            return "< 0.001" if above < 0.5 else "> 0.999"
        return f"{above:.3f}"


def resample(
    counts: Sequence[CountArray], *, num_resamples: int = 10_000, seed: int = 0
) -> Resamples:
    """Draw images with replacement and score each resample like a dataset.

    Shapes:
        counts: for each run int64 (images, classes, 3), the same images in the same order

    Raises:
        ConfigError: `num_resamples` is below `MIN_RESAMPLES`.

    Source: Efron 1979, doi:10.1214/aos/1176344552.
    """
    if num_resamples < MIN_RESAMPLES:
        raise ConfigError(
            f"{num_resamples} resamples are too few for a 95 % interval: use at least "
            f"{MIN_RESAMPLES}, better 10000."
        )
    num_runs, (num_images, num_classes, _) = len(counts), counts[0].shape
    # Integers below 2⁵³ are exact in float64, and only floats go through BLAS.
    table = np.concatenate([run.reshape(num_images, -1) for run in counts], axis=1).astype(float)
    miou, iou = [], []
    for weights in _draw_weights(num_images, num_resamples, seed):
        sums = (weights @ table).reshape(len(weights), num_runs, num_classes, 3).swapaxes(0, 1)
        iou.append(compute_ious(sums))
        miou.append(average_ious(iou[-1]))
    return Resamples(np.concatenate(miou, axis=1), np.concatenate(iou, axis=1))


def compute_estimate(value: float, resampled: FloatArray, num_images: int) -> Estimate:
    """Return a score with its interval.

    The resamples are first shifted so that their mean is the score: a mean of ratios is lower on
    a resample than on the dataset, noticeably so for rare classes. They are float64 (resamples,);
    NaN is left out. `num_images` are behind the score; for the IoU of a class, those with it.
    """
    low, high = _compute_interval(resampled - np.nanmean(resampled) + value, num_images)
    if low is not None and high is not None:
        low, high = max(0.0, min(low, value)), min(1.0, max(high, value))
    return Estimate(value, low, high)


def compute_difference(value: float, resampled: FloatArray, num_images: int) -> Difference:
    """Return a difference with its interval and its probability of being above 0.

    The arguments are those of `compute_estimate`; both runs had the same resamples.
    """
    low, high = _compute_interval(resampled, num_images)
    if low is None:
        return Difference(value, None, None, None)
    drawn = resampled[~np.isnan(resampled)]
    share = (np.sum(drawn > 0) + 0.5 * np.sum(drawn == 0) + 0.5) / (len(drawn) + 1)
    narrowness = np.sqrt((num_images - 1) / num_images)
    return Difference(value, low, high, float(stdtr(num_images - 1, ndtri(share) * narrowness)))


def holm(differences: Sequence[Difference | None]) -> list[bool]:
    """Return which differences are significant at 5 % after Holm's correction.

    Source: Holm 1979, Scandinavian Journal of Statistics 6, 65-70.
    """
    tested = sorted((one.p_value, i) for i, one in enumerate(differences) if one is not None)
    is_significant = [False] * len(differences)
    for rank, (p_value, index) in enumerate(tested):
        if p_value * (len(tested) - rank) >= 1 - LEVEL:
            break
        is_significant[index] = True
    return is_significant


def compute_bias_ratio(value: float, resampled: FloatArray) -> float:
    """Return the bias of the resamples in units of their standard deviation.

    Intervals are reliable up to about 0.25 (Efron and Tibshirani 1993, chapter 10).
    """
    deviation = float(np.std(resampled))
    return abs(float(np.mean(resampled)) - value) / deviation if deviation else 0.0


def _draw_weights(num_images: int, num_resamples: int, seed: int) -> Iterator[FloatArray]:
    """Yield how often each image is in each resample, float64 (resamples, images), in chunks."""
    generator = np.random.default_rng(seed)
    max_rows = max(1, _CHUNK_SIZE // num_images)
    for start in range(0, num_resamples, max_rows):
        num_rows = min(max_rows, num_resamples - start)
        drawn = generator.integers(num_images, size=(num_rows, num_images))
        drawn += num_images * np.arange(num_rows)[:, None]
        weights = np.bincount(drawn.ravel(), minlength=num_rows * num_images)
        yield weights.reshape(num_rows, num_images).astype(float)


def _compute_interval(
    resampled: FloatArray, num_images: int
) -> tuple[float, float] | tuple[None, None]:
    """Return the expanded percentile interval, widened for few images like Student's t.

    Source: Hesterberg 2015, arXiv:1411.5279 ("expanded percentile").
    """
    if num_images < MIN_IMAGES:
        return None, None
    tail = (1 - LEVEL) / 2
    widening = np.sqrt(num_images / (num_images - 1))
    tail = float(ndtr(widening * stdtrit(num_images - 1, tail)))
    low, high = np.nanquantile(resampled, [tail, 1 - tail]).tolist()
    return low, high
