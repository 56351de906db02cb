"""The log of a run: JSON lines, exact across interruptions, and its copy for TensorBoard."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

from atrous.extras import import_extra
from atrous.run import parse_record

Listener = Callable[[dict[str, Any]], None]
"""Called with events, each with a `kind`: log records, progress, notes and warnings."""


def note(listener: Listener, message: str, kind: str = "note") -> None:
    """Report a note, or another kind of event that is a message."""
    listener({"kind": kind, "message": message})


class RunLog:
    """Appends records to `log.jsonl`, exactly once per step even if the run is killed.

    Args:
        num_bytes: Length of the log in bytes when the restored state was saved. Later records are
            dropped, because their steps are redone. Session records are kept even if their steps
            are redone.
    """

    def __init__(self, path: Path, num_bytes: int = 0) -> None:
        self._file = open(path, "a+b")  # noqa: SIM115 (closed by __exit__)
        self._file.seek(num_bytes)
        dropped = [(line, parse_record(line)) for line in self._file.read().splitlines()]
        self._file.truncate(num_bytes)
        for line, record in dropped:
            if record is not None and record["kind"] == "session":
                self._file.write(line + b"\n")
        self._file.flush()

    def write(self, record: dict[str, Any]) -> None:
        """Append one record; it survives the process being killed."""
        self._file.write(json.dumps(record).encode() + b"\n")
        self._file.flush()

    def sync(self) -> int:
        """Flush the log to disk and return its length in bytes."""
        os.fsync(self._file.fileno())
        return self._file.tell()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._file.close()


def build_tensorboard_listener(folder: Path, step: int) -> Listener:
    """Return a listener that writes the log for TensorBoard; events after `step` are dropped.

    Raises:
        ConfigError: TensorBoard is not installed.
    """
    import_extra("tensorboard", "tensorboard")
    from torch.utils.tensorboard import SummaryWriter

    writer = SummaryWriter(str(folder), purge_step=step + 1)

    def listen(event: dict[str, Any]) -> None:
        if event["kind"] in ("train", "val"):
            for name, value in event.items():
                if name not in ("kind", "step") and value is not None:
                    writer.add_scalar(f"{event['kind']}/{name}", value, event["step"])
        elif event["kind"] == "session" and event["event"] == "end":
            writer.close()

    return listen
