"""Early end of a session: stop signals and the session budget."""

import signal
import threading
import time
from types import FrameType
from typing import Any, Self

from atrous.durations import Duration


class StopRequest:
    """Whether this session ends before the run does, and why.

    As a context manager, it handles signals: the first Ctrl-C or SIGTERM requests a clean end, a
    second Ctrl-C interrupts at once. Clock time counts from the construction.

    Args:
        after: Session budget in clock time, steps or epochs; None for no limit.
    """

    def __init__(self, after: Duration | None) -> None:
        self.reason: str | None = None
        self.is_signalled = False
        self._after = after
        self._started_s = time.monotonic()
        self._handlers: dict[int, Any] = {}
        self._num_interrupts = 0

    def is_due(self, num_steps: int, steps_per_epoch: float) -> bool:
        """Return whether to end after `num_steps` steps of this session."""
        if self._after is not None and self.reason is None:
            seconds = time.monotonic() - self._started_s
            if self._after.is_over(
                num_steps=num_steps, seconds=seconds, steps_per_epoch=steps_per_epoch
            ):
                self.reason = "stop-after"
        return self.reason is not None

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._handlers[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *exception: object) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self._num_interrupts += number == signal.SIGINT
        if self._num_interrupts > 1:
            raise KeyboardInterrupt
        self.is_signalled = True
        self.reason = signal.Signals(number).name
