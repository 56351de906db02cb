"""Chooses the fastest engine on this machine, by a measurement that the run folder keeps."""

import json
import platform
import statistics
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import torch
from typing_extensions import TypedDict

from atrous.engines.engine import Engine
from atrous.engines.export_records import SPEED_FILE
from atrous.errors import AtrousError
from atrous.extras import find_versions
from atrous.files import write_atomically
from atrous.models.card import read_strictly
from atrous.parsing import parse_json
from atrous.run import RunFolder
from atrous.timing import count_cores, measure_times_s

IMAGE_HW = (513, 513)
NUM_ROUNDS = 5

Openers = dict[str, Callable[[], Engine]]


class _Entry(TypedDict):
    machine: dict[str, Any]
    seconds: dict[str, float | None]


def choose_fastest(run: RunFolder, openers: Openers) -> Engine:
    """Open the fastest engine on this machine.

    Engines that have not been measured are measured in turns on the same image. The median times
    are kept in `exports/speed.json` with a description of the machine, if the folder is writable.

    Args:
        openers: Functions that open the engines, by a label that changes with the engine.

    Raises:
        AtrousError: No engine can be opened; the error is that of the first.
    """
    if len(openers) == 1:
        return next(iter(openers.values()))()
    machine, path, entries = describe_machine(), run.exports / SPEED_FILE, list[_Entry]()
    with suppress(OSError, ValueError):
        entries = read_strictly(list[_Entry], parse_json(path.read_bytes()))
    known = next((entry for entry in entries if entry["machine"] == machine), None)
    seconds = dict(known["seconds"]) if known else {}
    if not set(openers) <= set(seconds):
        seconds = measure_engines(openers)
        others = [entry for entry in entries if entry["machine"] != machine]
        text = json.dumps([*others, {"machine": machine, "seconds": seconds}], indent=2) + "\n"
        with suppress(OSError):
            write_atomically(path, lambda file: file.write(text.encode()))
    usable = {label: seconds[label] for label in openers if seconds[label] is not None}
    ranked = sorted(usable, key=lambda label: usable[label] or 0.0) or list(openers)[:1]
    return openers[ranked[0]]()


def measure_engines(openers: Openers) -> dict[str, float | None]:
    """Return the median seconds per mask of each engine; None if it cannot be opened."""
    engines: dict[str, Engine] = {}
    for label, opener in openers.items():
        with suppress(AtrousError):
            engines[label] = opener()
    generator = torch.Generator().manual_seed(0)
    bands = {engine.card.bands or 3 for engine in engines.values()}  # one model: one number
    image = torch.randint(0, 256, (*bands, *IMAGE_HW), generator=generator, dtype=torch.uint8)
    calls = [partial(engine.predict_mask, image) for engine in engines.values()]
    times_s = measure_times_s(calls, min_rounds=NUM_ROUNDS, max_rounds=NUM_ROUNDS)
    medians_s = [round(statistics.median(times), 6) for times in times_s]
    return {**dict.fromkeys(openers), **dict(zip(engines, medians_s, strict=True))}


def describe_machine() -> dict[str, Any]:
    """Return the properties that the speed of engines depends on: processor, threads, versions."""
    return {
        "processor": _find_processor(),
        "cores": count_cores(),
        "threads": torch.get_num_threads(),
        "system": platform.system(),
        "versions": find_versions(("torch", "onnxruntime", "openvino")),
    }


def _find_processor() -> str:
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
