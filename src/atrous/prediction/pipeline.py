"""Reading ahead and writing behind, so that the network waits for neither."""

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Self, TypeVar

Item = TypeVar("Item")
Loaded = TypeVar("Loaded")


def read_ahead(
    items: Iterable[Item], load: Callable[[Item], Loaded], *, ahead: int, threads: int
) -> Generator[Loaded, None, None]:
    """Give `load(item)` of each item, in order, while the next ones are being loaded.

    Args:
        items: Walked by one thread, in order, so that it may be a stream.
        load: Called from several threads at once.
        ahead: Items that are walked and loaded before they are asked for; 0 for no threads.
        threads: Threads that load.

    Raises:
        Exception: As `items` or `load` raised it, when its turn comes. All threads have ended
            then, and also when the caller stops before the end.
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
    """Runs what writes in threads of its own, at most so much at a time.

    Leaving the `with` block waits for all of it; if the block raised, what has not begun is
    dropped and what has begun is finished.

    Args:
        behind: Jobs that wait or run before `submit` waits; 0 for no threads.
        threads: Threads that write; with one, the order of the jobs is kept.
    """

    def __init__(self, *, behind: int, threads: int) -> None:
        self._pool = ThreadPoolExecutor(threads) if behind else None
        self._behind = behind
        self._pending: deque[Future[Any]] = deque()

    def submit(self, write: Callable[..., object], *arguments: Any) -> None:
        """Run `write(*arguments)` soon; raises what an earlier job raised."""
        if self._pool is None:
            write(*arguments)
            return
        while len(self._pending) >= self._behind:
            self._pending.popleft().result()
        self._pending.append(self._pool.submit(write, *arguments))

    def flush(self) -> None:
        """Wait for all jobs; raises what one of them raised."""
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
