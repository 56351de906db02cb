"""The bands of images that are not 8-bit grey or RGB, and the range of their values."""

import math
from dataclasses import dataclass
from typing import Any, Self

Ranges = tuple[tuple[float, float], ...]
"""For each band, the values that become 0 and 1 before normalization."""

MAX_BANDS = 1024


@dataclass(frozen=True)
class BandStatistics:
    """Range of each band of a training set, and its statistics within the range.

    Attributes:
        ranges: Value that becomes 0 and value that becomes 1, of each band.
    """

    ranges: Ranges
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @classmethod
    def unknown(cls, num_bands: int | None) -> Self | None:
        """Return a placeholder, before the images are read; None for 8-bit RGB."""
        n = num_bands
        return None if n is None else cls(((0.0, 1.0),) * n, (0.5,) * n, (0.5,) * n)

    @classmethod
    def from_json(cls, values: dict[str, Any] | None) -> Self | None:
        """Build the statistics from their values in a JSON file."""
        if values is None:
            return None
        ranges = tuple((float(low), float(high)) for low, high in values["ranges"])
        return cls(ranges, tuple(values["mean"]), tuple(values["std"]))


def check_ranges(ranges: Ranges | None) -> Ranges | None:
    """Return ranges after checking them.

    Raises:
        ValueError: There is none or too many, or a range is empty or not finite.
    """
    if ranges is not None and not 1 <= len(ranges) <= MAX_BANDS:
        raise ValueError(f"there must be 1 to {MAX_BANDS} bands")
    for low, high in ranges or ():
        if not (math.isfinite(low) and math.isfinite(high) and low < high):
            raise ValueError(f"[{low:g}, {high:g}] is no range: give two numbers, the lower first")
    return ranges
