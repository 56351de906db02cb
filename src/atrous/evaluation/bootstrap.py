"""How much of a score is the luck of which pictures were in the set: resampled pictures."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr, ndtri, stdtr, stdtrit

from atrous.errors import ConfigError
from atrous.evaluation.counts import CountArray
from atrous.evaluation.metrics import FloatArray, compute_miou, compute_ratios

LEVEL = 0.95
"""Share of samples of pictures whose interval is to hold the true value."""

FEWEST_RESAMPLES = 1000

FEWEST_IMAGES = 5
"""Below this, Student's t asks for quantiles so far out that no draw is there: no interval."""

_CHUNK_SIZE = 1_000_000  # (resamples, images) weights that are in memory at a time


@dataclass(frozen=True)
class Resamples:
    """Scores of sets of pictures drawn with replacement, the same sets for all runs.

    Attributes:
        miou: float64 (runs, resamples).
        iou: float64 (runs, resamples, classes); NaN where no picture of a resample has the class.
    """

    miou: FloatArray
    iou: FloatArray


@dataclass(frozen=True)
class Estimate:
    """A score and the ends of its 95 % interval; None for fewer than `FEWEST_IMAGES` pictures."""

    value: float
    low: float | None
    high: float | None

    def format_value(self) -> str:
        """Write the value, such as 0.5791."""
        return self._format(self.value)

    def format_interval(self) -> str:
        """Write the interval, such as `0.5688 to 0.5894`; a dash where there is none."""
        if self.low is None or self.high is None:
            return "–"
        return f"{self._format(self.low)} to {self._format(self.high)}"

    @staticmethod
    def _format(value: float) -> str:
        return f"{value:.4f}"


@dataclass(frozen=True)
class Difference(Estimate):
    """A difference of two scores on the same pictures.

    Attributes:
        probability_above_0: Share of the resamples in which it is, ties counted half, with the
            same allowance for few pictures as the interval: beyond 0.975 or below 0.025 exactly
            where the interval leaves 0 out.
    """

    probability_above_0: float | None

    @property
    def p_value(self) -> float:
        """Two-sided: how often chance alone would show a difference this clear."""
        above = self.probability_above_0
        return 1.0 if above is None else 2 * min(above, 1 - above)

    def format_probability(self) -> str:
        """Write the probability, never rounded to 0 or 1; a dash where there is none."""
        above = self.probability_above_0
        if above is None:
            return "–"
        if not 0.001 <= above <= 0.999:
            return "< 0.001" if above < 0.5 else "> 0.999"
        return f"{above:.3f}"

    @staticmethod
    def _format(value: float) -> str:
        return f"{value:+.4f}".replace("-", "−")


def resample(
    counts: Sequence[CountArray], *, num_resamples: int = 10_000, seed: int = 0
) -> Resamples:
    """Draw pictures with replacement and score each draw as a data set of its own.

    A class that is in no mask of a draw is left out of that draw's mean, as in every mIoU.

    Args:
        counts: For each run int64 (images, classes, 3), the same images in the same order.
        num_resamples: How many sets to draw.
        seed: Of the draws.

    Raises:
        ConfigError: There are too few resamples for an interval.

    Source: Efron 1979, doi:10.1214/aos/1176344552.
    """
    if num_resamples < FEWEST_RESAMPLES:
        raise ConfigError(
            f"{num_resamples} resamples are too few for a 95 % interval: take at least "
            f"{FEWEST_RESAMPLES}, better 10000."
        )
    num_runs, (num_images, num_classes, _) = len(counts), counts[0].shape
    # Whole numbers below 2⁵³ stay exact in float64, and only floats go through BLAS.
    table = np.concatenate([run.reshape(num_images, -1) for run in counts], axis=1).astype(float)
    miou = np.empty((num_runs, num_resamples))
    iou = np.empty((num_runs, num_resamples, num_classes))
    start = 0
    for weights in _draw_weights(num_images, num_resamples, seed):
        errors = (weights @ table).reshape(len(weights), num_runs, num_classes, 3).swapaxes(0, 1)
        rows = slice(start, start + len(weights))
        miou[:, rows] = compute_miou(errors)
        iou[:, rows] = compute_ious(errors)
        start += len(weights)
    return Resamples(miou, iou)


def compute_ious(errors: CountArray | FloatArray) -> FloatArray:
    """Return the IoU of each class; NaN where no labelled pixel is of it.

    Shapes:
        errors: (…, classes, 3): true positives, false positives, false negatives
        returns: float64 (…, classes)
    """
    occurs = errors[..., [0, 2]].any(axis=-1)
    return np.where(occurs, compute_ratios(errors, nothing=0)[..., 0], np.nan)


def compute_estimate(value: float, resampled: FloatArray, num_images: int) -> Estimate:
    """Put an interval around a score.

    The resamples are first shifted so that their mean is the score: a mean of ratios comes out
    lower on a draw than on the set it is drawn from, for rare classes noticeably so.

    Args:
        value: The score on all pictures.
        resampled: float64 (resamples,); NaN is left out.
        num_images: Pictures that carry the score: those with the class, for the IoU of a class.
    """
    low, high = _compute_interval(resampled - np.nanmean(resampled) + value, num_images)
    if low is not None and high is not None:
        low, high = max(0.0, min(low, value)), min(1.0, max(high, value))
    return Estimate(value, low, high)


def compute_difference(value: float, resampled: FloatArray, num_images: int) -> Difference:
    """Put an interval around a difference, and say how likely it is above 0.

    Args:
        value: The difference on all pictures.
        resampled: float64 (resamples,), run against run on the same draws; NaN is left out.
        num_images: Pictures that carry the difference.
    """
    low, high = _compute_interval(resampled, num_images)
    if low is None:
        return Difference(value, None, None, None)
    drawn = resampled[~np.isnan(resampled)]
    share = (np.sum(drawn > 0) + 0.5 * np.sum(drawn == 0) + 0.5) / (len(drawn) + 1)
    narrowness = np.sqrt((num_images - 1) / num_images)
    return Difference(value, low, high, float(stdtr(num_images - 1, ndtri(share) * narrowness)))


def find_clear(differences: Sequence[Difference | None]) -> list[bool]:
    """Mark the differences that are clear even though several were looked at.

    By Holm's correction, no more than one family of comparisons in twenty marks anything where
    there is nothing.

    Source: Holm 1979, Scandinavian Journal of Statistics 6, 65-70.
    """
    asked = [(less.p_value, index) for index, less in enumerate(differences) if less is not None]
    clear = [False] * len(differences)
    for place, (p_value, index) in enumerate(sorted(asked)):
        if p_value * (len(asked) - place) >= 1 - LEVEL:
            break
        clear[index] = True
    return clear


def compute_bias_ratio(value: float, resampled: FloatArray) -> float:
    """Return how far the resamples lie below or above the score, in their own deviations.

    Up to about 0.25 an interval can be trusted (Efron and Tibshirani 1993, chapter 10).
    """
    deviation = float(np.std(resampled))
    return abs(float(np.mean(resampled)) - value) / deviation if deviation else 0.0


def _draw_weights(num_images: int, num_resamples: int, seed: int) -> Iterator[FloatArray]:
    """Yield how often each picture is in each resample, float64 (some resamples, images)."""
    generator = np.random.default_rng(seed)
    most = max(1, _CHUNK_SIZE // num_images)
    for start in range(0, num_resamples, most):
        num_rows = min(most, num_resamples - start)
        drawn = generator.integers(num_images, size=(num_rows, num_images))
        drawn += num_images * np.arange(num_rows)[:, None]
        weights = np.bincount(drawn.ravel(), minlength=num_rows * num_images)
        yield weights.reshape(num_rows, num_images).astype(float)


def _compute_interval(
    resampled: FloatArray, num_images: int
) -> tuple[float, float] | tuple[None, None]:
    """Return the expanded percentile interval: as wide for few pictures as Student's t asks for.

    Source: Hesterberg 2015, arXiv:1411.5279 ("expanded percentile").
    """
    if num_images < FEWEST_IMAGES:
        return None, None
    tail = (1 - LEVEL) / 2
    widening = np.sqrt(num_images / (num_images - 1))
    tail = float(ndtr(widening * stdtrit(num_images - 1, tail)))
    low, high = np.nanquantile(resampled, [tail, 1 - tail]).tolist()
    return low, high
