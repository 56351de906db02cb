"""The queue of images, and their batches."""

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError, Future
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


class _Job(NamedTuple):
    key: BatchKey
    image: Tensor
    future: "Future[Prediction]"


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

    def __init__(
        self,
        run: Run,
        *,
        max_batch: Callable[[BatchKey], int],
        max_waiting: int,
    ) -> None:
        self._run = run
        self._max_batch = max_batch
        self._max_waiting = max_waiting
        self._jobs: deque[_Job] = deque()
        self._changed = threading.Condition(threading.RLock())
        self._stopping = False
        self._seconds_per_image = 0.0
        self._thread = threading.Thread(target=self._work, name="batcher", daemon=True)
        self._thread.start()

    @property
    def num_waiting(self) -> int:
        """Number of images in the queue, without cancelled ones."""
        with self._changed:
            return sum(not job.future.cancelled() for job in self._jobs)

    def check_room(self) -> None:
        """Check that the queue is not full.

        Raises:
            RequestError: 429: it is full. Retry-After is the estimated time to process it.
        """
        with self._changed:
            if len(self._jobs) >= self._max_waiting:
                self._jobs = deque(job for job in self._jobs if not job.future.cancelled())
            if (num_waiting := len(self._jobs)) >= self._max_waiting:
                raise RequestError(
                    429,
                    f"The queue is full: {num_waiting} images are waiting. Try again later.",
                    retry_after_s=num_waiting * self._seconds_per_image,
                )

    def submit(self, key: BatchKey, image: Tensor) -> "Future[Prediction]":
        """Queue an image.

        Raises:
            RequestError: 429: the queue is full. 503: `stop` was called.
        """
        future: Future[Prediction] = Future()
        with self._changed:
            if self._stopping:
                raise RequestError(503, "The server is shutting down.")
            self.check_room()
            self._jobs.append(_Job(key, image, future))
            self._changed.notify()
        return future

    def stop(self) -> None:
        """Accept no more images, and return when all in the queue are processed."""
        with self._changed:
            self._stopping = True
            self._changed.notify()
        self._thread.join()

    def _work(self) -> None:
        while batch := self._take_batch():
            start_s = time.perf_counter()
            self._process(batch)
            seconds = (time.perf_counter() - start_s) / len(batch)
            self._seconds_per_image += _SMOOTHING * (seconds - self._seconds_per_image)
            del batch  # releases the images while waiting

    def _take_batch(self) -> list[_Job]:
        """Return the oldest job and others of its key; an empty list when stopped."""
        with self._changed:
            while True:
                self._changed.wait_for(lambda: self._jobs or self._stopping)
                if not self._jobs:
                    return []
                first = self._jobs.popleft()
                if not first.future.cancelled():
                    break
            batch, others = [first], deque[_Job]()
            max_batch = self._max_batch(first.key)
            for job in self._jobs:
                if len(batch) >= max_batch or job.key != first.key:
                    others.append(job)
                elif not job.future.cancelled():
                    batch.append(job)
            self._jobs = others
            return batch

    def _process(self, batch: Sequence[_Job]) -> None:
        def check() -> None:
            if all(job.future.cancelled() for job in batch):
                raise CancelledError

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
