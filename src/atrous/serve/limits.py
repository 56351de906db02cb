"""Limits of the server, and the memory accounting of its requests."""

import math
import threading
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

from atrous.errors import ConfigError
from atrous.serve.errors import RequestError

MAX_PIXELS = 50_000_000

DECODING_BYTES = 7
"""Bytes per pixel while an image is decoded: Pillow's copy and the tensor."""

BAND_BYTES = 12
"""Bytes per pixel and band of images that are not 8-bit RGB: the array and its copy as float32."""


@dataclass(frozen=True)
class Limits:
    """Limits of each request, and of all requests together.

    Attributes:
        max_body_bytes: Maximum size of a body, counted while it arrives.
        max_pixels: Maximum number of pixels of an image, checked before decoding; None for what
            the models segment in half of `deadline_s`, at most `MAX_PIXELS`.
        max_side_px: Maximum height and width of an image.
        max_memory_bytes: Maximum memory of the bodies and decoded images of all requests.
        max_waiting: Maximum number of images in the queue.
        max_batch: Maximum number of images in a batch.
        max_connections: Maximum number of open connections.
        deadline_s: Maximum time from the end of the body to the start of the response.
        transfer_s: Maximum time for the headers of a request, for its body, and for which a
            client may stop receiving a response.
    """

    max_body_bytes: int = 20_000_000
    max_pixels: int | None = None
    max_side_px: int = 16_384
    max_memory_bytes: int = 2**31
    max_waiting: int = 128
    max_batch: int = 16
    max_connections: int = 256
    deadline_s: float = 60.0
    transfer_s: float = 30.0

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if value is not None and not 0 < value < math.inf:
                raise ConfigError(f"{name} must be a number above 0, not {value}.")
        required_bytes = self.max_body_bytes + DECODING_BYTES * (self.max_pixels or MAX_PIXELS)
        if self.max_memory_bytes < required_bytes:
            raise ConfigError(
                f"max_memory_bytes is {self.max_memory_bytes / 1e6:.0f} MB, which is too small for "
                f"the largest allowed image: {required_bytes / 1e6:.0f} MB for its file and during "
                "decoding. Increase it (--max-memory-mb), or reduce --max-megapixels."
            )


@dataclass
class Memory:
    """Memory budget shared by all requests."""

    max_bytes: int
    reserved_bytes: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)


class Reservation(AbstractContextManager["Reservation"]):
    """Memory of one request, released at the end of the `with` block."""

    def __init__(self, memory: Memory) -> None:
        self._memory = memory
        self._num_bytes = 0
        self._closed = False

    def resize(self, num_bytes: int) -> None:
        """Change the size; raise 429 if the budget is exhausted or the request has ended."""
        memory = self._memory
        with memory.lock:
            total = memory.reserved_bytes + num_bytes - self._num_bytes
            if self._closed:  # decoding can outlive a request that missed its deadline
                raise RequestError(429, "The request has ended.")
            if num_bytes > self._num_bytes and total > memory.max_bytes:
                raise RequestError(
                    429, "The images of other requests fill the memory. Try again shortly."
                )
            memory.reserved_bytes, self._num_bytes = total, num_bytes

    def __exit__(self, *exception: object) -> None:
        with self._memory.lock:
            self._memory.reserved_bytes -= self._num_bytes
            self._closed = True
