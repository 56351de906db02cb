"""The queue of images, and their batches."""

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import NamedTuple

from torch import Tensor

from atrous.prediction import Prediction
from atrous.serve.errors import RequestError

_SMOOTHING = 0.1


class BatchKey(NamedTuple):
    """What the images of a batch have in common."""

    model: str
    size_hw: tuple[int, int]
    confidence: bool


Run = Callable[[BatchKey, Sequence[Tensor], Callable[[], None]], Sequence[Prediction]]


@dataclass(eq=False)
class _Job:
    key: BatchKey
    image: Tensor
    future: "Future[Prediction]" = field(default_factory=Future)


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

    def __init__(self, run: Run, *, max_batch: Callable[[BatchKey], int], max_waiting: int) -> None:
        self._run = run
        self._max_batch = max_batch
        self._max_waiting = max_waiting
        self._jobs: list[_Job] = []
        self._lock = threading.RLock()
        self._seconds_per_image = 0.0
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="batcher")

    @property
    def num_waiting(self) -> int:
        """Number of images in the queue, without cancelled ones, which it drops."""
        with self._lock:
            self._jobs = [job for job in self._jobs if not job.future.cancelled()]
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
        """Queue an image. Cancelling the future removes it.

        Raises:
            RequestError: 429: the queue is full. 503: `stop` was called.
        """
        job = _Job(key, image)
        with self._lock:
            self.check_room()
            try:
                self._worker.submit(self._process_batch)  # one call for each job is enough
            except RuntimeError:
                raise RequestError(503, "The server is shutting down.") from None
            self._jobs.append(job)
        return job.future

    def stop(self) -> None:
        """Accept no more images, and return when all in the queue are processed."""
        self._worker.shutdown()

    def _process_batch(self) -> None:
        if not (batch := self._take_batch()):
            return

        def check() -> None:
            if all(job.future.cancelled() for job in batch):
                raise CancelledError

        start_s = time.perf_counter()
        results: Sequence[Prediction | Exception]
        try:
            results = self._run(batch[0].key, [job.image for job in batch], check)
        except Exception as error:
            results = [error] * len(batch)
        for job, result in zip(batch, results, strict=True):
            if not job.future.set_running_or_notify_cancel():
                continue
            if isinstance(result, Exception):
                job.future.set_exception(result)
            else:
                job.future.set_result(result)
        seconds = (time.perf_counter() - start_s) / len(batch)
        self._seconds_per_image += _SMOOTHING * (seconds - self._seconds_per_image)

    def _take_batch(self) -> list[_Job]:
        """Return the oldest job and others of its key; an empty list if there is none."""
        with self._lock:
            if not self.num_waiting:
                return []
            key = self._jobs[0].key
            same = [job for job in self._jobs if job.key == key]
            batch = same[: self._max_batch(key)]
            self._jobs = [job for job in self._jobs if job not in batch]
            return batch
