"""Durations of training in epochs, steps or clock time."""

import math
import re
from dataclasses import dataclass
from typing import Literal

from atrous.errors import ConfigError

_CLOCK = re.compile(r"(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m(?:in)?)?(?:(\d+(?:\.\d+)?)s)?")
_COUNT = re.compile(r"(\d+(?:\.\d+)?)(ep|it)")


@dataclass(frozen=True)
class Duration:
    """A duration of training.

    Attributes:
        unit: `"ep"` epochs, `"it"` optimizer steps, `"s"` seconds.
    """

    amount: float
    unit: Literal["ep", "it", "s"]

    def compute_steps(self, *, steps_per_epoch: float, step_s: float | None) -> int:
        """Return the number of steps, at least 1 unless the amount is 0.

        Epochs and steps are rounded up, clock time down.

        Args:
            step_s: Measured seconds per step; required for clock time only.
        """
        if self.unit == "s":
            assert step_s is not None, "clock time needs a measured speed"
            return max(1, math.floor(self.amount / step_s)) if self.amount else 0
        return math.ceil(self.amount * (steps_per_epoch if self.unit == "ep" else 1) - 1e-9)

    def is_over(self, *, num_steps: int, seconds: float, steps_per_epoch: float) -> bool:
        """Return whether the steps, or the clock time, that have passed are at least this long."""
        if self.unit == "s":
            return seconds >= self.amount
        return num_steps >= self.compute_steps(steps_per_epoch=steps_per_epoch, step_s=None)


def parse_duration(text: str) -> Duration:
    """Parse a duration such as `20ep`, `30000it`, `55min`, `3h50m` or `90s`.

    Raises:
        ConfigError: The text is not a duration.
    """
    compact = text.replace(" ", "")
    if match := _COUNT.fullmatch(compact):
        return Duration(float(match[1]), "ep" if match[2] == "ep" else "it")
    if compact and (match := _CLOCK.fullmatch(compact)):
        hours, minutes, seconds = (float(part or 0) for part in match.groups())
        return Duration(3600 * hours + 60 * minutes + seconds, "s")
    raise ConfigError(
        f"'{text}' is not a duration. Write epochs as 20ep, steps as 30000it, "
        "or clock time as 55min, 3h50m or 90s."
    )


def format_seconds(seconds: float) -> str:
    """Format a time as 42 s, 12 min or 3 h 05 min."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"
