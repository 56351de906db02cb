"""Which engine is fastest on this machine: measured once, remembered in the run folder."""

import json
import os
import platform
import statistics
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from pydantic import TypeAdapter
from typing_extensions import TypedDict

from atrous.engines.engine import Engine
from atrous.engines.export_records import SPEED_FILE
from atrous.errors import AtrousError
from atrous.files import write_atomically
from atrous.models.card import read_strictly
from atrous.parsing import parse_json
from atrous.run import RunFolder
from atrous.timing import measure_times_s

IMAGE_HW = (513, 513)
NUM_ROUNDS = 5

Openers = dict[str, Callable[[], Engine]]


class _Entry(TypedDict):
    machine: dict[str, Any]
    seconds: dict[str, float | None]


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
    entries = _load(run)
    known = next((entry for entry in entries if entry["machine"] == machine), None)
    seconds = dict(known["seconds"]) if known else {}
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
    opened = {label: engine for label, engine in engines.items() if engine is not None}
    generator = torch.Generator().manual_seed(0)
    image = torch.randint(0, 256, (3, *IMAGE_HW), generator=generator, dtype=torch.uint8)
    calls = [partial(engine.predict_mask, image) for engine in opened.values()]
    times_s = measure_times_s(calls, min_rounds=NUM_ROUNDS, max_rounds=NUM_ROUNDS)
    medians_s = dict(zip(opened, map(statistics.median, times_s), strict=True))
    return {label: round(medians_s[label], 6) if label in opened else None for label in engines}


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


def _load(run: RunFolder) -> list[_Entry]:
    with suppress(OSError, ValueError):
        entries = parse_json((run.exports / SPEED_FILE).read_bytes())
        return read_strictly(TypeAdapter(list[_Entry]), entries)
    return []


def _save(run: RunFolder, entries: list[_Entry]) -> None:
    text = json.dumps(entries, indent=2) + "\n"
    with suppress(OSError):
        write_atomically(run.exports / SPEED_FILE, lambda file: file.write(text.encode()))
