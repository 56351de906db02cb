"""Worker processes that load items ahead, in order."""

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

_MAX_AHEAD = 2  # tasks per worker whose results have not been taken
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

    The worker processes end when the generator is exhausted, closed or raises, and when this
    process is killed.

    Args:
        load: Called in a worker process; must be picklable.
        workers: Processes that load ahead; with 0, `load` is called in this process on demand.
        receive: Called with each item in a thread of this process, one item ahead; only with
            worker processes.

    Raises:
        ConfigError: The number of workers is negative.
        DataError: While iterating, a worker was killed, or cannot be started for lack of memory,
            processes or open files.
        Exception: While iterating, any exception of `load`.
    """
    if workers < 0:
        raise ConfigError(f"The number of workers must be 0 or more, not {workers}.")
    if not workers:
        return (load(task) for task in tasks)
    return _load_ahead(load, tasks, workers, receive)


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
        thread.shutdown(wait=False)  # it may wait for a worker and ends with it


class _Workers:
    """Processes that receive tasks in turn, each over its own pipe.

    Signals to the process group (Ctrl-C, SIGTERM of a scheduler) are handled by the parent: the
    workers block them from the start and are stopped by SIGKILL. A worker without a parent reads
    the end of its pipe and exits.
    """

    def __init__(self) -> None:
        self._workers: list[tuple[BaseProcess, Connection]] = []

    def start(self, load: Callable[[Any], Any], num_workers: int) -> None:
        atexit.register(self.kill)  # runs before multiprocessing's own, which joins children
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        try:
            for _ in range(num_workers):
                pipe, worker_end = multiprocessing.Pipe()
                process = multiprocessing.Process(
                    target=_run_worker, args=(load, worker_end, pipe), daemon=True
                )
                process.start()
                worker_end.close()
                self._workers.append((process, pipe))
        except OSError as error:
            raise DataError(
                f"Cannot start worker process {len(self._workers) + 1} of {num_workers}: "
                f"{error.strerror or error}. Use fewer workers (0 loads in the main process), or "
                "raise the limit: `ulimit -n` for open files, `ulimit -u` for processes."
            ) from error
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)

    def load(self, tasks: Iterable[Any]) -> Iterator[Any]:
        waiting: deque[tuple[BaseProcess, Connection]] = deque()
        for task, (process, pipe) in zip(tasks, cycle(self._workers), strict=False):
            try:
                pipe.send(task)
            except ConnectionError as error:
                raise _build_killed_error(process) from error
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
    """Return the next item of a worker, or raise its exception."""
    try:
        item, error, obstacle = pipe.recv()
    except (EOFError, ConnectionError) as gone:
        raise _build_killed_error(process) from gone
    except (OSError, RuntimeError) as failure:  # RuntimeError: torch cannot map the memory
        raise DataError(
            f"Cannot receive an item from a worker process: {failure}. Use fewer workers or a "
            "smaller batch, or raise the limit of open files (`ulimit -n`) or memory."
        ) from failure
    if error is not None:
        raise error
    if obstacle is not None:
        _warn_about_pipes(obstacle)
    return item


def _warn_about_pipes(obstacle: str) -> None:
    global _has_warned
    if not _has_warned:
        _has_warned = True
        warnings.warn(
            "Shared memory (/dev/shm) cannot hold the items of the worker processes, so they are "
            f"sent through pipes, which is slower: {obstacle}. Use fewer workers; give a container "
            "more shared memory (docker run --shm-size=2g); or, if too many files are open, raise "
            "`ulimit -n`.",
            AtrousWarning,
            stacklevel=2,
        )


def _build_killed_error(process: BaseProcess) -> DataError:
    process.join(1)
    return DataError(
        f"A worker process was killed (exit code {process.exitcode}), usually for lack of memory: "
        "use fewer workers, or give the machine or container more memory."
    )


def _run_worker(load: Callable[[Any], Any], pipe: Connection, parent_end: Connection) -> None:
    """Send (item, error, why shared memory is not used) for each task until the pipe ends."""
    signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)  # for workers that are spawned
    parent_end.close()  # so that the pipe ends with the parent
    torch.set_num_threads(1)
    obstacle: str | None = None
    with suppress(EOFError, ConnectionError):
        while True:
            task = pipe.recv()
            try:
                response, obstacle = _pack(load(task), obstacle)
            except Exception as error:
                if not isinstance(error, AtrousError):
                    error.add_note(f"In a worker process: {traceback.format_exc()}")
                response = _pack_error(error)
            pipe.send_bytes(response)


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
    """Return a pickled response, its tensors in shared memory if possible, else the obstacle."""
    if obstacle is None:
        try:
            return ForkingPickler.dumps((item, None, None)), None
        except (OSError, RuntimeError) as error:
            obstacle = str(error)
            if left_behind := re.search(r"torch_\w+", obstacle):
                with suppress(OSError):
                    os.unlink(f"/dev/shm/{left_behind[0]}")
    return pickle.dumps((item, None, obstacle)), obstacle
