"""When a session ends before the run does: signals and the session's own budget."""

import signal
import threading
import time
from types import FrameType, TracebackType
from typing import Any, Self

from atrous.durations import Duration


class StopRequest:
    """Tells whether this session is to end, and why.

    While it is entered, the first Ctrl-C or SIGTERM asks for a clean end, and a second Ctrl-C
    interrupts at once.

    Args:
        after: The session's budget in clock time, steps or epochs; None for no limit.
        steps_per_epoch: Needed to tell when a budget in epochs is spent.
        first_step: Steps that were done when the session began.
    """

    def __init__(self, after: Duration | None, *, steps_per_epoch: float, first_step: int) -> None:
        self.reason: str | None = None
        self._deadline_s: float | None = None
        self._last_step: int | None = None
        if after is not None and after.unit == "s":
            self._deadline_s = time.monotonic() + after.amount
        elif after is not None:
            steps = after.compute_steps(steps_per_epoch=steps_per_epoch, step_s=None)
            self._last_step = first_step + steps
        self._handlers: dict[int, Any] = {}

    def is_due(self, step: int) -> bool:
        """Return whether the session is to end after `step` finished steps."""
        late = self._deadline_s is not None and time.monotonic() >= self._deadline_s
        if late or (self._last_step is not None and step >= self._last_step):
            self.reason = self.reason or "stop-after"
        return self.reason is not None

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._handlers[number] = signal.signal(number, self._handle)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.reason is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.reason = signal.Signals(number).name
