"""Measurements in a process of their own."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path


def run_child(function: str, request: object) -> "subprocess.CompletedProcess[str]":
    """Call a function, `module:name`, in a new Python process and capture its output.

    It reads the request as JSON from stdin.
    """
    module, _, name = function.partition(":")
    return subprocess.run(
        [sys.executable, "-c", f"from {module} import {name}; {name}()"],
        input=json.dumps(request),
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
    )


def read_process_bytes(key: str) -> int:
    """Return a size of this process in bytes, such as `VmRSS`; raises OSError if unknown."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(f"{key}:"))


def read_processor_times_s() -> tuple[float, float] | None:
    """Return the time all cores spent on other processes, and in total; None if unknown."""
    try:
        line = Path("/proc/stat").read_text(encoding="ascii").splitlines()[0]
    except OSError:
        return None
    user, nice, system, idle, waiting, *rest = (int(ticks) for ticks in line.split()[1:9])
    busy_s = (user + nice + system + sum(rest)) / os.sysconf("SC_CLK_TCK")
    idle_s = (idle + waiting) / os.sysconf("SC_CLK_TCK")
    return busy_s - time.process_time(), busy_s + idle_s
