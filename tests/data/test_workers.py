"""Worker processes: order of the items, signals to the process group, and their end."""

import errno
import multiprocessing
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from atrous.data import workers
from atrous.data.workers import load_in_order
from atrous.errors import AtrousWarning, DataError


def load(task):
    return torch.full((1000, 2), task).T


@contextmanager
def start_program(text, *prefix):
    """Start a program in a process group of its own; what is left of the group is killed."""
    setup = """
        import multiprocessing, os, pickle, signal, time, torch
        from atrous.data.workers import load_in_order
        def load(task):
            return torch.full((500_000,), task)
    """
    program = textwrap.dedent(setup) + textwrap.dedent(text)
    with subprocess.Popen(
        [*prefix, sys.executable, "-c", program],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    ) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)


@pytest.mark.parametrize("receive", [None, torch.neg])
def test_items_come_in_order_and_as_they_were(receive):
    items = list(load_in_order(load, range(23), workers=3, receive=receive))
    assert [int(item[0, 0]) for item in items] == [-n if receive else n for n in range(23)]
    assert {item.stride() for item in items} == {(1, 2)}
    assert multiprocessing.active_children() == []


@pytest.mark.parametrize("receive", [None, torch.neg])
def test_closing_ends_the_workers(receive):
    loader = load_in_order(load, range(10**9), workers=2, receive=receive)
    with closing(loader) as items:
        next(items)
        assert len(multiprocessing.active_children()) == 2
    assert multiprocessing.active_children() == []


def test_an_error_of_a_worker_is_raised_here_with_where_it_was():
    with pytest.raises(ZeroDivisionError) as caught:
        list(load_in_order(partial(divmod, 1), [1, 0, 1], workers=2))
    assert "in _run_worker" in caught.value.__notes__[0]
    assert multiprocessing.active_children() == []


@pytest.mark.parametrize("receive", [None, torch.neg])
def test_a_killed_worker_is_an_error(receive):
    with pytest.raises(DataError, match=r"killed \(exit code 7\).* use fewer workers"):
        list(load_in_order(os._exit, [7, 7, 7, 7, 7], workers=1, receive=receive))


def test_a_failed_start_leaves_no_workers(monkeypatch):
    start, started = multiprocessing.Process.start, []

    def start_one(process):
        if started:
            raise OSError(errno.EMFILE, "Too many open files")
        started.append(start(process))

    monkeypatch.setattr(multiprocessing.Process, "start", start_one)
    with pytest.raises(DataError, match=r"process 2 of 3: Too many open files.*`ulimit -n`"):
        list(load_in_order(load, range(9), workers=3))
    assert multiprocessing.active_children() == []


def test_without_shared_memory_items_come_through_pipes(monkeypatch):
    def refuse(item):
        raise RuntimeError("No space left on device")

    monkeypatch.setattr(workers, "ForkingPickler", SimpleNamespace(dumps=refuse))
    monkeypatch.setattr(workers, "_has_warned", False)
    with pytest.warns(AtrousWarning, match=r"No space left.*--shm-size") as warned:
        items = list(load_in_order(load, range(7), workers=2))
    assert len(warned) == 1
    assert [int(item[0, 0]) for item in items] == list(range(7))
    assert items[0].stride() == (1, 2)


def test_too_little_shared_memory_stops_nothing():
    if subprocess.run(["unshare", "-m", "true"], capture_output=True, check=False).returncode:
        pytest.skip("a small /dev/shm of its own needs the right to unshare -m")
    mount = 'mount -t tmpfs -o size=5m tmpfs /dev/shm && exec "$0" "$@"'
    program = """
        kept = list(load_in_order(load, range(6), workers=2))
        print([int(item[-1]) for item in kept], os.listdir("/dev/shm"))
    """
    with start_program(program, "unshare", "-m", "sh", "-c", mount) as process:
        output, _ = process.communicate(timeout=60)
    assert output.splitlines()[-1] == "[0, 1, 2, 3, 4, 5] []"
    assert "Shared memory (/dev/shm) cannot hold" in output


def test_signals_to_the_whole_group_leave_the_workers_to_finish():
    # A worker gets one of each at its very first moment, before any code of its own.
    program = """
        caught = []
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda number, frame: caught.append(number))
            os.register_at_fork(after_in_child=lambda number=number: os.kill(os.getpid(), number))
        for step, item in enumerate(load_in_order(load, range(30), workers=2)):
            if step == 2:
                os.killpg(0, signal.SIGINT)
                os.killpg(0, signal.SIGTERM)
        print(step, len(caught))
    """
    with start_program(program) as process:
        output, _ = process.communicate(timeout=60)
    assert output.split() == ["29", "2"]


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks for processes in /proc")
@pytest.mark.parametrize("ending", ["raise KeyError", "os.kill(os.getpid(), signal.SIGKILL)"])
def test_workers_end_with_their_parent_however_it_ends(ending):
    # The next items are never taken, and too large for a pipe; nothing closes the generator.
    program = f"""
        from atrous.data import workers
        workers._pack = lambda item, obstacle: (pickle.dumps((item, None, None)), None)
        items = load_in_order(load, range(9), workers=3)
        next(items)
        print(*(process.pid for process in multiprocessing.active_children()), flush=True)
        time.sleep(0.5)
        {ending}
    """
    with start_program(program) as process:
        pids = [int(pid) for pid in process.stdout.readline().split()]
        assert len(pids) == 3
        assert process.wait(timeout=60) != 0
        deadline = time.monotonic() + 30
        while any(map(is_running, pids)):
            assert time.monotonic() < deadline
            time.sleep(0.05)


def is_running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"  # one that ended and that nobody has reaped


class TwoPartError(Exception):
    """Cannot be unpickled: it is made of two parts and gives one to its base."""

    def __init__(self, text, lock):
        super().__init__(text)
        self.lock = lock


def fail_oddly(task):
    raise TwoPartError("odd", threading.Lock() if task else None)


@pytest.mark.parametrize("task", [0, 1])
def test_an_error_that_cannot_be_sent_comes_as_text(task):
    with pytest.raises(RuntimeError, match="TwoPartError: odd"):
        list(load_in_order(fail_oddly, [task], workers=1))
