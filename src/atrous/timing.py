"""Cores of this machine, and timing of alternating calls."""

import os
import time
from collections.abc import Callable, Sequence


def count_cores() -> int:
    """Return the number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def measure_times_s(
    calls: Sequence[Callable[[], object]],
    *,
    budget_s: float = 4.0,
    min_rounds: int = 5,
    max_rounds: int = 100,
) -> list[list[float]]:
    """Time calls in turns, so that other load on the machine affects all of them alike.

    Each call runs once before the first round, as a warm-up.

    Args:
        calls: Calls to time; each must return only when its work is done.
        budget_s: Mean seconds per call after which no further round starts.

    Returns:
        Seconds of each round, for each call.
    """
    for call in calls:
        call()
    times_s: list[list[float]] = [[] for _ in calls]
    end_s = time.perf_counter() + budget_s * len(calls)
    for num_rounds in range(max_rounds):
        if num_rounds >= min_rounds and time.perf_counter() > end_s:
            break
        for call, own in zip(calls, times_s, strict=True):
            start_s = time.perf_counter()
            call()
            own.append(time.perf_counter() - start_s)
    return times_s
