"""Value ranges and statistics of the bands of a training set, and what is wrong with them."""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from atrous.bands import BandStatistics, Ranges
from atrous.errors import DataError

MIN_LEVELS = 64
"""A band with fewer different values among 256 steps of its range is reported."""

_PERCENTILES = (0.5, 99.5)
_MIN_STD = 1e-3

Values = npt.NDArray[np.float32]


def draw_pixels(image: Values, num_pixels: int, *, seed: int) -> Values:
    """Return the values of random pixels with data; a pixel may be drawn twice.

    Shapes:
        image: float32 (bands, H, W), NaN where there is no data
        returns: float32 (at most num_pixels, bands)
    """
    flat = image.reshape(len(image), -1)
    drawn = flat[:, np.random.default_rng(seed).integers(0, flat.shape[1], num_pixels)].T
    return np.ascontiguousarray(drawn[~np.isnan(drawn[:, 0])])


def compute_band_statistics(samples: Values, ranges: Ranges | None = None) -> BandStatistics:
    """Return the ranges of bands with their statistics.

    Ranges that are not given are the percentiles 0.5 and 99.5 of each band, or its smallest and
    largest value if these are equal.

    Shapes:
        samples: float32 (pixels, bands)

    Raises:
        DataError: There is no pixel with data.
    """
    if not len(samples):
        raise DataError("No pixel of the training images has data: all are NaN or nodata.")
    ranges = tuple(map(_find_range, samples.T)) if ranges is None else ranges
    shares = [_scale(band, *one) for band, one in zip(samples.T, ranges, strict=True)]
    return BandStatistics(
        ranges=ranges,
        mean=tuple(round(float(share.mean(dtype=np.float64)), 6) for share in shares),
        std=tuple(max(_MIN_STD, round(float(share.std(dtype=np.float64)), 6)) for share in shares),
    )


def find_band_problems(samples: Values, ranges: Ranges) -> Iterator[tuple[str, str]]:
    """Yield (code, sentence) for each band that is constant or uses few levels of its range.

    Shapes:
        samples: float32 (pixels, bands)
    """
    for number, (band, (low, high)) in enumerate(zip(samples.T, ranges, strict=True), start=1):
        smallest, largest = float(band.min()), float(band.max())
        if smallest == largest:
            yield "constant-band", f"Band {number} has the value {smallest:g} in all images."
            continue
        steps = np.unique((256 * _scale(band, low, high)).astype(np.int16).clip(max=255))
        if len(steps) < MIN_LEVELS:
            yield (
                "few-levels",
                f"Band {number} uses {len(steps)} of 256 levels of its range, {low:g} to {high:g}; "
                f"its values lie between {smallest:g} and {largest:g}.",
            )


def _find_range(band: Values) -> tuple[float, float]:
    low, high = map(float, np.percentile(band, _PERCENTILES, method="nearest"))
    if low == high:
        low, high = float(band.min()), float(band.max())
    return (low, high) if low < high else (low, low + 1)


def _scale(band: Values, low: float, high: float) -> Values:
    return ((band - np.float32(low)) / np.float32(high - low)).clip(0, 1)
