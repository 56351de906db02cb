"""Processes of `atrous train --devices`: this one, and one for each further device."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import IO

from atrous.cli.failures import end_with_error
from atrous.errors import ConfigError, TrainingError
from atrous.timing import count_cores

_GRACE_S = 20.0
"""Seconds in which this process must notice that another one has ended."""


@contextmanager
def start_processes(num: int, num_nodes: int = 1) -> Iterator[None]:
    """Run this command in `num` processes, with torchrun's environment variables.

    The others end with this process, because they cannot reach it any more; if one of them fails,
    this one ends within 20 seconds.

    With several machines (`num_nodes`), the environment says which of them this is (NODE_RANK), and
    where the first one is (MASTER_ADDR, MASTER_PORT).

    Raises:
        ConfigError: The environment does not describe the machines.
        TrainingError: Another process failed.
    """
    is_part = "WORLD_SIZE" in os.environ  # of torchrun, or one of the processes started here
    if num * num_nodes == 1 or is_part:
        yield
        return
    if num_nodes == 1:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = str(free.getsockname()[1])
        os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "NODE_RANK": "0"}
    first_rank = num * _find_node_rank(num_nodes)
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, count_cores() // num)))
    os.environ |= {"WORLD_SIZE": str(num * num_nodes), "LOCAL_WORLD_SIZE": str(num)}
    others = [_Other(first_rank + index, index) for index in range(1, num)]
    os.environ |= {"RANK": str(first_rank), "LOCAL_RANK": "0"}
    is_over = threading.Event()
    threading.Thread(target=_watch, args=(others, is_over), daemon=True).start()
    try:
        yield
    except Exception as error:
        if failed := [other for other in others if other.has_failed(wait_s=5.0)]:
            raise TrainingError(failed[0].describe()) from error
        raise
    finally:
        is_over.set()
        for other in others:
            other.end()


def _find_node_rank(num_nodes: int) -> int:
    rank = os.environ.get("NODE_RANK", "")
    if "MASTER_ADDR" not in os.environ or rank not in map(str, range(num_nodes)):
        raise ConfigError(
            f"--nodes {num_nodes} needs two environment variables: NODE_RANK, the index of this "
            f"machine (0 to {num_nodes - 1}), and MASTER_ADDR, the address of machine 0."
        )
    os.environ.setdefault("MASTER_PORT", "29500")
    return int(rank)


class _Other:
    """Another process of the training, whose output is kept for an error message."""

    def __init__(self, rank: int, local_rank: int) -> None:
        self.rank = rank
        self._output: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 (read after the end)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "atrous", *sys.argv[1:]],
            env={**os.environ, "RANK": str(rank), "LOCAL_RANK": str(local_rank)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=self._output,
        )

    def has_failed(self, wait_s: float = 0.0) -> bool:
        try:
            return self._process.wait(wait_s) != 0
        except subprocess.TimeoutExpired:
            return False

    def describe(self) -> str:
        code = self._process.returncode
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"failed ({code})"
        self._output.seek(0)
        text = self._output.read().decode(errors="replace").strip()[-2000:]
        said = f": {text}" if text else "."
        return (
            f"Process {self.rank} of the training {how}{said}\nStart the same command again to "
            "resume from the last checkpoint."
        )

    def end(self) -> None:
        try:
            self._process.wait(_GRACE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def _watch(others: list[_Other], is_over: threading.Event) -> None:
    """End this process if it has not noticed that another failed, as on a GPU."""
    while not is_over.wait(0.5):
        for other in others:
            if other.has_failed() and not is_over.wait(_GRACE_S):
                with suppress(SystemExit):
                    end_with_error(other.describe())
                os._exit(2)
