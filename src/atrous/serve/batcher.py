"""Work that comes from many threads, done by one, in batches of the same kind."""

import threading
import time
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Future
from typing import Generic, NamedTuple, TypeVar

from atrous.serve.refusals import BusyError, NotReadyError

Key = TypeVar("Key", bound=Hashable)
Item = TypeVar("Item")
Result = TypeVar("Result")

_SMOOTHING = 0.1


class _Job(NamedTuple, Generic[Key, Item, Result]):
    key: Key
    item: Item
    future: "Future[Result]"


class Batcher(Generic[Key, Item, Result]):
    """A bounded queue and the thread that works it off.

    There is no waiting for a batch to fill: whatever has come of the same kind while the last
    batch ran is the next one. A future that is cancelled before its turn is never run; that is
    also how a deadline is kept.

    Args:
        run: Does the work: items of one key to their results, in order.
        limit: Most items of a key that are done at once.
        max_waiting: Items that may wait.
    """

    def __init__(
        self,
        run: Callable[[Key, Sequence[Item]], Sequence[Result]],
        *,
        limit: Callable[[Key], int],
        max_waiting: int,
    ) -> None:
        self._run = run
        self._limit = limit
        self._max_waiting = max_waiting
        self._jobs: deque[_Job[Key, Item, Result]] = deque()
        self._changed = threading.Condition(threading.RLock())
        self._stopping = False
        self._seconds_per_item = 0.0
        self._thread = threading.Thread(target=self._work, name="batcher", daemon=True)
        self._thread.start()

    @property
    def num_waiting(self) -> int:
        """Items that wait and have not been cancelled."""
        with self._changed:
            return sum(not job.future.cancelled() for job in self._jobs)

    def check_room(self) -> None:
        """Refuse work while the queue is full.

        Raises:
            BusyError: It is; says when to come back.
        """
        with self._changed:
            if len(self._jobs) >= self._max_waiting:
                self._jobs = deque(job for job in self._jobs if not job.future.cancelled())
            if (num_waiting := len(self._jobs)) >= self._max_waiting:
                raise BusyError(
                    f"{num_waiting} images are waiting already. Try again later.",
                    num_waiting * self._seconds_per_item,
                )

    def submit(self, key: Key, item: Item) -> "Future[Result]":
        """Queue an item.

        Raises:
            BusyError: The queue is full.
            NotReadyError: `stop` was called.
        """
        future: Future[Result] = Future()
        with self._changed:
            if self._stopping:
                raise NotReadyError("The server is being stopped.")
            self.check_room()
            self._jobs.append(_Job(key, item, future))
            self._changed.notify()
        return future

    def stop(self) -> None:
        """Finish all that was taken, take no more, and return when it is done."""
        with self._changed:
            self._stopping = True
            self._changed.notify()
        self._thread.join()

    def _work(self) -> None:
        while batch := self._take():
            start_s = time.perf_counter()
            self._do(batch)
            seconds = (time.perf_counter() - start_s) / len(batch)
            self._seconds_per_item += _SMOOTHING * (seconds - self._seconds_per_item)
            del batch

    def _take(self) -> list[_Job[Key, Item, Result]]:
        """Wait for work and return the oldest with what is of its kind; nothing at the end."""
        with self._changed:
            while True:
                while not self._jobs:
                    if self._stopping:
                        return []
                    self._changed.wait()
                first = self._jobs.popleft()
                if first.future.set_running_or_notify_cancel():
                    return [first, *self._take_alike(first.key, self._limit(first.key) - 1)]

    def _take_alike(self, key: Key, most: int) -> list[_Job[Key, Item, Result]]:
        alike: list[_Job[Key, Item, Result]] = []
        others: deque[_Job[Key, Item, Result]] = deque()
        for job in self._jobs:
            if len(alike) == most or job.key != key:
                others.append(job)
            elif job.future.set_running_or_notify_cancel():
                alike.append(job)
        self._jobs = others
        return alike

    def _do(self, batch: Sequence[_Job[Key, Item, Result]]) -> None:
        try:
            results = self._run(batch[0].key, [job.item for job in batch])
            for job, result in zip(batch, results, strict=True):
                job.future.set_result(result)
        except Exception as error:
            for job in batch:
                if not job.future.done():
                    job.future.set_exception(error)
