"""The learning rate as a pure function of the step."""

import math
from collections.abc import Sequence


def compute_lr(
    step: int,
    *,
    peak_lr: float,
    total_steps: int,
    schedule: str,
    warmup_steps: int = 0,
    step_at: Sequence[int] = (),
    power: float = 0.9,
) -> float:
    """Return the learning rate of an optimizer step.

    Args:
        step: Number of steps finished before this one, 0 for the first.
        peak_lr: Learning rate after the warm-up.
        schedule: `poly` (1 - t)^power to 0 (arXiv:1706.05587, section 4.1), `cosine` to 0,
            `step` ÷10 at each of `step_at`, or `constant`.
        warmup_steps: Steps of linear increase before the schedule.
    """
    if step < warmup_steps:
        return peak_lr * (step + 1) / warmup_steps
    progress = (step - warmup_steps) / max(1, total_steps - warmup_steps)
    match schedule:
        case "constant":
            return peak_lr
        case "poly":
            return peak_lr * (1 - progress) ** power
        case "cosine":
            return peak_lr * (1 + math.cos(math.pi * progress)) / 2
        case "step":
            return peak_lr * 0.1 ** sum(step >= milestone for milestone in step_at)
    raise ValueError(f"no schedule '{schedule}'")


def compute_ema_decay(step: int, decay: float) -> float:
    """Return the decay of the moving average of the weights, which increases up to `decay`."""
    return min(decay, (1 + step) / (10 + step))
