"""Processes that load ahead: in order, and gone as soon as nobody takes what they load."""

import atexit
import multiprocessing
import os
import pickle
import re
import signal
import traceback
import warnings
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import cycle
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from multiprocessing.reduction import ForkingPickler
from typing import Any, TypeVar

import torch

from atrous.errors import AtrousError, AtrousWarning, ConfigError, DataError

Task = TypeVar("Task")
Item = TypeVar("Item")

_MAX_AHEAD = 2  # tasks that one worker is given before the first of them is taken
_has_warned = False
_SIGNALS = {signal.SIGINT, signal.SIGTERM}


def load_in_order(
    load: Callable[[Task], Item],
    tasks: Iterable[Task],
    *,
    workers: int,
    receive: Callable[[Item], Item] | None = None,
) -> Generator[Item]:
    """Return `load(task)` for each task, in order.

    The workers end with the generator: when it is exhausted, closed or raises. Should the process
    itself be killed, they end with it.

    Args:
        load: Called in a worker process; can be pickled.
        tasks: What to load.
        workers: Processes that load ahead; with 0, `load` is called when an item is asked for.
        receive: Called with each item in a thread of this process, one item ahead.

    Raises:
        ConfigError: The number of workers is negative.
        DataError: While iterating, a worker was killed, or cannot be started for lack of memory,
            processes or open files.
        Exception: While iterating, whatever `load` raises.
    """
    if workers < 0:
        raise ConfigError(f"The number of workers must be 0 or more, not {workers}.")
    return _load_ahead(load, tasks, workers, receive) if workers else _load_here(load, tasks)


def _load_here(load: Callable[[Task], Item], tasks: Iterable[Task]) -> Generator[Item]:
    for task in tasks:
        yield load(task)


def _load_ahead(
    load: Callable[[Task], Item],
    tasks: Iterable[Task],
    num_workers: int,
    receive: Callable[[Item], Item] | None,
) -> Generator[Item]:
    workers = _Workers()
    try:
        workers.start(load, num_workers)
        items = workers.load(tasks)
        yield from items if receive is None else _receive_ahead(items, receive)
    finally:
        workers.kill()


def _receive_ahead(items: Iterator[Any], receive: Callable[[Any], Any]) -> Iterator[Any]:
    def receive_next() -> Any:
        return next((receive(item) for item in items), None)

    thread = ThreadPoolExecutor(1)
    try:
        coming = thread.submit(receive_next)
        while (item := coming.result()) is not None:
            coming = thread.submit(receive_next)
            yield item
    finally:
        thread.shutdown(wait=False)  # it may wait for a worker, and ends with that


class _Workers:
    """Processes that take tasks in turn, each over a pipe of its own.

    What is sent to the whole process group (Ctrl-C, SIGTERM of a scheduler) is for the parent to
    answer, so these signals are blocked in a worker from its first moment, and it is stopped by
    SIGKILL. Without a parent it reads the end of its pipe, and ends.
    """

    def __init__(self) -> None:
        self._workers: list[tuple[BaseProcess, Connection]] = []

    def start(self, load: Callable[[Any], Any], num_workers: int) -> None:
        atexit.register(self.kill)  # before multiprocessing's own, which waits for children
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        try:
            for _ in range(num_workers):
                pipe, far_end = multiprocessing.Pipe()
                process = multiprocessing.Process(
                    target=_serve, args=(load, far_end, pipe), daemon=True
                )
                process.start()
                far_end.close()
                self._workers.append((process, pipe))
        except OSError as error:
            raise DataError(
                f"Worker process {len(self._workers) + 1} of {num_workers}, to read images, cannot "
                f"be started: {error.strerror or error}. Use fewer workers (0 reads in the process "
                "itself), or raise the limit: `ulimit -n` for open files, `ulimit -u` for "
                "processes."
            ) from error
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)

    def load(self, tasks: Iterable[Any]) -> Iterator[Any]:
        waiting: deque[tuple[BaseProcess, Connection]] = deque()
        for task, (process, pipe) in zip(tasks, cycle(self._workers), strict=False):
            try:
                pipe.send(task)
            except ConnectionError as error:
                raise _describe_killed(process) from error
            waiting.append((process, pipe))
            if len(waiting) > _MAX_AHEAD * len(self._workers):
                yield _take(*waiting.popleft())
        while waiting:
            yield _take(*waiting.popleft())

    def kill(self) -> None:
        for process, _ in self._workers:
            process.kill()
        for process, _ in self._workers:
            process.join()
        atexit.unregister(self.kill)


def _take(process: BaseProcess, pipe: Connection) -> Any:
    """Return what a worker has loaded, or raise what it met."""
    try:
        item, error, obstacle = pipe.recv()
    except (EOFError, ConnectionError) as gone:
        raise _describe_killed(process) from gone
    except (OSError, RuntimeError) as failure:  # RuntimeError: torch's own of a mapping
        raise DataError(
            f"An image that a worker process has read cannot be taken over: {failure}. Use fewer "
            "workers or a smaller batch, or raise the limit of open files (`ulimit -n`) or memory."
        ) from failure
    if error is not None:
        raise error
    if obstacle is not None:
        _warn_of_pipes(obstacle)
    return item


def _warn_of_pipes(obstacle: str) -> None:
    global _has_warned
    if not _has_warned:
        _has_warned = True
        warnings.warn(
            "Shared memory (/dev/shm) cannot hold what the worker processes read, so it goes "
            f"through pipes, which is slower: {obstacle}. Use fewer workers; or in a container, "
            "give it more (docker run --shm-size=2g), and where too many files are open, raise "
            "`ulimit -n`.",
            AtrousWarning,
            stacklevel=2,
        )


def _describe_killed(process: BaseProcess) -> DataError:
    process.join(1)
    return DataError(
        f"A process that reads images ahead was killed (exit code {process.exitcode}). Mostly "
        "there is too little memory: use fewer workers, or give the machine or container more."
    )


def _serve(load: Callable[[Any], Any], pipe: Connection, far_end: Connection) -> None:
    """Answer tasks with (item, error, why shared memory is not used) until nobody asks."""
    signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)  # where a worker is spawned, not forked
    far_end.close()  # else the pipe would not end with the parent
    torch.set_num_threads(1)
    obstacle: str | None = None
    with suppress(EOFError, ConnectionError):
        while True:
            task = pipe.recv()
            try:
                answer, obstacle = _pack(load(task), obstacle)
            except Exception as error:
                if not isinstance(error, AtrousError):
                    error.add_note(f"In a worker process: {traceback.format_exc()}")
                answer = _pack_error(error)
            pipe.send_bytes(answer)


def _pack_error(error: Exception) -> bytes:
    """Return the answer of a task that failed; what cannot be sent as it is, as text."""
    try:
        answer = pickle.dumps((None, error, None))
        pickle.loads(answer)
    except Exception:
        text = "".join(traceback.format_exception(error))
        answer = pickle.dumps((None, RuntimeError(text), None))
    return answer


def _pack(item: Any, obstacle: str | None) -> tuple[bytes | memoryview, str | None]:
    """Return an answer, its tensors in shared memory if they can be, and why if they cannot."""
    if obstacle is None:
        try:
            return ForkingPickler.dumps((item, None, None)), None
        except (OSError, RuntimeError) as error:
            obstacle = str(error)
            if left_behind := re.search(r"torch_\w+", obstacle):
                with suppress(OSError):
                    os.unlink(f"/dev/shm/{left_behind[0]}")
    return pickle.dumps((item, None, obstacle)), obstacle
