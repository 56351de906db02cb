"""The log of a run: JSON lines, exact across interruptions."""

import json
import os
from pathlib import Path
from typing import Any, Self

from atrous.run import parse_record


class RunLog:
    """Appends records to `log.jsonl`, each step in it once however often the run was killed.

    Args:
        path: The log; made if it is not there.
        num_bytes: Length of the log when the state that training goes on from was saved. What
            was logged after it is done again, so those lines are dropped; only the lines of
            sessions stay.
    """

    def __init__(self, path: Path, *, num_bytes: int = 0) -> None:
        self._file = open(path, "a+b")  # noqa: SIM115 (closed by close)
        self._file.seek(num_bytes)
        sessions = [line for line in self._file.read().splitlines() if _is_session(line)]
        self._file.truncate(num_bytes)
        for line in sessions:
            self._file.write(line + b"\n")
        self._file.flush()

    def write(self, record: dict[str, Any]) -> None:
        """Append one record; it survives the process being killed."""
        self._file.write(json.dumps(record).encode() + b"\n")
        self._file.flush()

    def sync(self) -> int:
        """Put the log on disk for certain and return its length in bytes."""
        os.fsync(self._file.fileno())
        return self._file.tell()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._file.close()


def _is_session(line: bytes) -> bool:
    record = parse_record(line)
    return record is not None and record["kind"] == "session"
