"""Which engine is fastest on this machine: measured once, remembered in the run folder."""

import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from atrous.engines.engine import Engine
from atrous.engines.export_records import SPEED_FILE
from atrous.errors import AtrousError
from atrous.files import write_atomically
from atrous.run import RunFolder

IMAGE_HW = (513, 513)
NUM_ROUNDS = 5

Openers = dict[str, Callable[[], Engine]]


def choose_fastest(run: RunFolder, openers: Openers) -> Engine:
    """Open the engine that was fastest on this machine; measure those not measured yet.

    All are measured by turns on the same image, the median of five rounds after one to warm up;
    `exports/speed.json` remembers them with the machine. One that cannot be opened is left out.
    Where the folder cannot be written, the choice is made all the same and forgotten.

    Args:
        run: The run folder.
        openers: What makes each engine, by a label that changes when the engine does.

    Raises:
        AtrousError: None can be opened; that of the first.
    """
    if len(openers) == 1:
        return next(iter(openers.values()))()
    machine = describe_machine()
    entries = [entry for entry in _load(run) if isinstance(entry, dict)]
    known = next((entry for entry in entries if entry.get("machine") == machine), None)
    seconds: dict[str, float | None] = dict(known["seconds"]) if known else {}
    if not set(openers) <= set(seconds):
        seconds = measure_engines(openers)
        others = [entry for entry in entries if entry.get("machine") != machine]
        _save(run, [*others, {"machine": machine, "seconds": seconds}])
    usable = {label: seconds[label] for label in openers if seconds[label] is not None}
    ranked = sorted(usable, key=lambda label: usable[label] or 0.0) or list(openers)[:1]
    return openers[ranked[0]]()


def measure_engines(openers: Openers) -> dict[str, float | None]:
    """Return the median seconds of each engine for one mask; None where it cannot be opened."""
    engines: dict[str, Engine | None] = {}
    for label, opener in openers.items():
        engines[label] = None
        with suppress(AtrousError):
            engines[label] = opener()
    times: dict[str, list[float]] = {label: [] for label, engine in engines.items() if engine}
    generator = torch.Generator().manual_seed(0)
    image = torch.randint(0, 256, (3, *IMAGE_HW), generator=generator, dtype=torch.uint8)
    for _ in range(NUM_ROUNDS + 1):
        for label, measured in times.items():
            engine = engines[label]
            assert engine is not None
            start_s = time.perf_counter()
            engine.predict_mask(image)
            measured.append(time.perf_counter() - start_s)
    return {
        label: round(statistics.median(times[label][1:]), 6) if label in times else None
        for label in engines
    }


def describe_machine() -> dict[str, Any]:
    """Return what the speed of an engine depends on: processor, threads, versions."""
    versions = {}
    for package in ("torch", "onnxruntime", "openvino"):
        with suppress(PackageNotFoundError):
            versions[package] = version(package)
    return {
        "processor": _find_processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "system": platform.system(),
        "versions": versions,
    }


def _find_processor() -> str:
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _load(run: RunFolder) -> list[Any]:
    with suppress(OSError, ValueError):
        entries = json.loads((run.exports / SPEED_FILE).read_bytes())
        return entries if isinstance(entries, list) else []
    return []


def _save(run: RunFolder, entries: list[Any]) -> None:
    text = json.dumps(entries, indent=2) + "\n"
    with suppress(OSError):
        write_atomically(run.exports / SPEED_FILE, lambda file: file.write(text.encode()))
