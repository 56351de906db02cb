"""The queue of images, and their batches."""

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from typing import NamedTuple

from torch import Tensor

from atrous.prediction import Prediction
from atrous.serve.errors import RequestError


class BatchKey(NamedTuple):
    """What the images of a batch have in common."""

    model: str
    size_hw: tuple[int, int]
    confidence: bool


Run = Callable[[BatchKey, Sequence[Tensor], Callable[[], None]], Sequence[Prediction]]


class Batcher:
    """A bounded queue, and the thread that processes it in batches of images with the same key.

    It never waits for a batch to fill: the next batch is whatever has arrived during the last
    one. Images whose future is cancelled while they wait are dropped.

    Args:
        run: Maps a key and its images to their predictions, in order. It also gets a function to
            call now and then, which raises CancelledError once all of its images are cancelled.
        max_batch: Maps a key to its maximum batch size.
        max_waiting: Maximum number of images in the queue.
    """

    def __init__(self, run: Run, max_batch: Callable[[BatchKey], int], max_waiting: int) -> None:
        self._run = run
        self._max_batch = max_batch
        self._max_waiting = max_waiting
        self._jobs: dict[Future[Prediction], tuple[BatchKey, Tensor]] = {}  # oldest first
        self._lock = threading.RLock()
        self._seconds_per_image = 0.0
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="batcher")

    @property
    def num_waiting(self) -> int:
        """Number of images in the queue, without cancelled ones, which it drops."""
        with self._lock:
            for future in [future for future in self._jobs if future.cancelled()]:
                del self._jobs[future]
            return len(self._jobs)

    def check_room(self) -> None:
        """Raise RequestError if the queue is full: 429, with the estimated time to process it."""
        if (num_waiting := self.num_waiting) >= self._max_waiting:
            raise RequestError(
                429,
                f"The queue is full: {num_waiting} images are waiting. Try again later.",
                retry_after_s=num_waiting * self._seconds_per_image,
            )

    def submit(self, key: BatchKey, image: Tensor) -> "Future[Prediction]":
        """Queue an image; raise as `check_room`, or 503 after `stop`."""
        future: Future[Prediction] = Future()
        with self._lock:
            self.check_room()
            try:
                self._worker.submit(self._process_batch)  # some calls find no image left
            except RuntimeError:
                raise RequestError(503, "The server is shutting down.") from None
            self._jobs[future] = key, image
        return future

    def stop(self) -> None:
        """Accept no more images, and return when all in the queue are processed."""
        self._worker.shutdown()

    def _process_batch(self) -> None:
        with self._lock:
            if not self.num_waiting:
                return
            key = next(iter(self._jobs.values()))[0]
            same = [future for future, (other, _) in self._jobs.items() if other == key]
            batch = {future: self._jobs.pop(future)[1] for future in same[: self._max_batch(key)]}

        def check() -> None:
            if all(future.cancelled() for future in batch):
                raise CancelledError

        start_s = time.perf_counter()
        results: Sequence[Prediction | Exception]
        try:
            results = self._run(key, list(batch.values()), check)
        except Exception as error:
            results = [error] * len(batch)
        self._seconds_per_image = (time.perf_counter() - start_s) / len(batch)
        for future, result in zip(batch, results, strict=True):
            if not future.set_running_or_notify_cancel():
                continue
            if isinstance(result, Exception):
                future.set_exception(result)
            else:
                future.set_result(result)
