"""Reading ahead and writing behind in threads, beside the network."""

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Self, TypeVar

Item = TypeVar("Item")
Loaded = TypeVar("Loaded")


def read_ahead(
    items: Iterable[Item], load: Callable[[Item], Loaded], *, ahead: int, threads: int
) -> Generator[Loaded, None, None]:
    """Yield `load(item)` for each item, in order, while the next items are loaded.

    When it ends, by an error or by the caller too, all of its threads have ended. An error of
    `items` or `load` is raised at the turn of the item.

    `items` are iterated in order by one thread, so that they may be a stream; `load` is called from
    several. With 0 items ahead there are no threads.
    """
    if ahead == 0:
        yield from map(load, items)
        return
    walker, loaders = ThreadPoolExecutor(1), ThreadPoolExecutor(threads)
    iterator = iter(items)

    def walk() -> "Future[Loaded] | None":
        for item in iterator:
            return loaders.submit(load, item)
        return None

    try:
        queue = deque(walker.submit(walk) for _ in range(ahead))
        while (loading := queue.popleft().result()) is not None:
            queue.append(walker.submit(walk))
            loaded = loading.result()
            del loading
            yield loaded
            del loaded
    finally:
        walker.shutdown(cancel_futures=True)
        loaders.shutdown(cancel_futures=True)


class WriteBehind:
    """Runs write jobs in threads, with a bounded queue.

    Leaving the `with` block waits for all jobs. If the block raised, running jobs are finished and
    waiting jobs are dropped.

    `submit` waits at `behind` unfinished jobs; 0 is for no threads. One thread keeps their order.
    """

    def __init__(self, *, behind: int, threads: int) -> None:
        self._pool = ThreadPoolExecutor(threads) if behind else None
        self._behind = behind
        self._pending: deque[Future[Any]] = deque()

    def submit(self, write: Callable[..., object], *arguments: Any) -> None:
        """Queue `write(*arguments)`; raises the error of an earlier job."""
        if self._pool is None:
            write(*arguments)
            return
        while len(self._pending) >= self._behind:
            self._pending.popleft().result()
        self._pending.append(self._pool.submit(write, *arguments))

    def flush(self) -> None:
        """Wait for all jobs; raises the error of any of them."""
        while self._pending:
            self._pending.popleft().result()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        try:
            if kind is None:
                self.flush()
        finally:
            if self._pool is not None:
                self._pool.shutdown(cancel_futures=True)
