"""Which batch fits into a memory."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from typing import get_args

from atrous.errors import ConfigError
from atrous.inspect.memory import (
    Optimizer,
    Precision,
    compute_optimizer_bytes,
    compute_passes_peak,
)
from atrous.models import Segmenter
from atrous.models.flops import build_shadow

RESERVED_BYTES = 500_000_000
"""What a process takes before the first tensor: Python, torch and its libraries or CUDA context."""

_OVERHEAD_PER_WEIGHT_BYTE = 1.5

_UNITS = {"MB": 10**6, "GB": 10**9, "TB": 10**12, "MIB": 2**20, "GIB": 2**30, "TIB": 2**40}
_MOST_PICTURES = 65536


@dataclass(frozen=True)
class Fit:
    """Which batch fits into a memory when training.

    Attributes:
        precision: `32` or `bf16` (autocast).
        optimizer: `adamw`, with two values of state per weight, or `sgd`, with one.
        batch_size: Most pictures per batch; 0 if not even one fits.
        peak_mb: Memory that training on this batch takes at the worst moment, in 10⁶ bytes, beside
            what the process takes before; that of one picture if none fits.
    """

    precision: str
    optimizer: str
    batch_size: int
    peak_mb: float


def find_largest_batch(compute_peak: Callable[..., int], budget_bytes: int) -> tuple[int, int]:
    """Find the largest batch that a memory holds.

    Args:
        compute_peak: Takes `batch_size` and returns its bytes, never fewer for a larger one.
        budget_bytes: Bytes that there are.

    Returns:
        The batch and its bytes; 0 and those of one picture if not even one fits.
    """
    fitting_bytes = compute_peak(batch_size=1)
    if fitting_bytes > budget_bytes:
        return 0, fitting_bytes
    fits, too_many = 1, _MOST_PICTURES
    bytes_per_picture = fitting_bytes
    while fits + 1 < too_many:
        # A straight line is nearly right; halving what is left keeps the search short if it is not.
        guess = fits + (budget_bytes - fitting_bytes) // bytes_per_picture
        guess = min(max(guess, fits + 1), (fits + too_many) // 2)
        peak_bytes = compute_peak(batch_size=guess)
        if peak_bytes > budget_bytes:
            too_many = guess
        else:
            bytes_per_picture = max(1, (peak_bytes - fitting_bytes) // (guess - fits))
            fits, fitting_bytes = guess, peak_bytes
    return fits, fitting_bytes


def compute_fits(model: Segmenter, size_hw: tuple[int, int], memory_bytes: int) -> list[Fit]:
    """Find the batch that fits into a memory, for each precision and optimizer.

    `RESERVED_BYTES` of the memory stay free for the process itself.
    """
    shadow = build_shadow(model)
    overhead_bytes = compute_overhead_bytes(model)
    budget_bytes = memory_bytes - RESERVED_BYTES - overhead_bytes
    fits = []
    for precision in get_args(Precision):
        passes_peak = cache(partial(compute_passes_peak, shadow, size_hw, precision=precision))
        for optimizer in get_args(Optimizer):
            state_bytes, step_peak = compute_optimizer_bytes(shadow, optimizer)
            compute_peak = partial(_compute_peak, passes_peak, state_bytes, step_peak)
            batch_size, peak_bytes = find_largest_batch(compute_peak, budget_bytes)
            fits.append(Fit(precision, optimizer, batch_size, (peak_bytes + overhead_bytes) / 1e6))
    return fits


def _compute_peak(
    passes_peak: Callable[..., int], state_bytes: int, step_peak: int, *, batch_size: int
) -> int:
    return max(state_bytes + passes_peak(batch_size=batch_size), step_peak)


def compute_overhead_bytes(model: Segmenter) -> int:
    """Estimate what training takes beside its tensors.

    It is what the allocator cannot use again, since gradients come to lie between features that
    are given back, and what convolutions work in. `benchmarks/memory.py` found it in proportion to
    the weights, whatever the batch.
    """
    weight_bytes = sum(p.numel() * p.element_size() for p in model.parameters())
    return int(_OVERHEAD_PER_WEIGHT_BYTE * weight_bytes)


def parse_memory(text: str) -> int:
    """Read an amount of memory such as `8GB` (10⁹ bytes) or `8GiB` (2³⁰).

    Raises:
        ConfigError: It is none.
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([MGT]i?B)\s*", text, flags=re.IGNORECASE)
    if found is None or not float(found[1]):
        raise ConfigError(
            f"'{text}' is no amount of memory. Give a number with MB, GB, MiB or GiB, such as 8GB."
        )
    return int(float(found[1]) * _UNITS[found[2].upper()])
