"""How many bytes all requests together hold."""

import threading
from typing import Self

from atrous.serve.refusals import BusyError


class Memory:
    """A budget that requests share.

    Args:
        max_bytes: What all of them may hold together.
    """

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.held_bytes = 0
        self._lock = threading.Lock()

    def change(self, num_bytes: int) -> None:
        """Take so many bytes, or give them back if negative.

        Raises:
            BusyError: There is no room for them now.
        """
        with self._lock:
            if num_bytes > 0 and self.held_bytes + num_bytes > self.max_bytes:
                raise BusyError(
                    "The images of other requests fill the memory that the server may use. Try "
                    "again shortly."
                )
            self.held_bytes += num_bytes


class Hold:
    """What one request holds; leaving the `with` block gives it back."""

    def __init__(self, memory: Memory) -> None:
        self._memory = memory
        self._num_bytes = 0
        self._lock = threading.Lock()
        self._closed = False

    def set(self, num_bytes: int) -> None:
        """Hold so many bytes from now on.

        Raises:
            BusyError: There is no room for them now, or the request has ended.
        """
        with self._lock:
            if self._closed:
                raise BusyError("The request has ended.")
            self._memory.change(num_bytes - self._num_bytes)
            self._num_bytes = num_bytes

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.set(0)
        self._closed = True
