"""The record of finished predictions in an output folder, for resuming."""

import hashlib
import json
import threading
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

from atrous.engines.engine import Engine
from atrous.prediction.sources import Source
from atrous.run import load_objects

FILENAME = "predictions.jsonl"


@dataclass(frozen=True)
class Record:
    """A finished image or video.

    Attributes:
        name: Common part of its file names.
        source: Name of the source.
        stamp: Changes with the content of the source.
        digest: Changes with the weights and options.
        files: Written files, relative to the folder.
        height: Image height in pixels; 0 for a video.
        width: Image width in pixels; 0 for a video.
        shares: Share of each class, then of ignored pixels; empty for a video.
        merged_px: Pixels of small regions that are labelled as a region beside them.
    """

    name: str
    source: str
    stamp: str
    digest: str
    files: tuple[str, ...]
    height: int = 0
    width: int = 0
    shares: tuple[float, ...] = ()
    merged_px: int = 0


class FinishedImage(NamedTuple):
    """An image with its record and its files of one output kind."""

    source: Source
    record: Record
    files: list[Path]


class Manifest:
    """The file `predictions.jsonl` in the output folder: one line per finished source.

    Args:
        out: The folder, which exists.
        resume: Whether to keep the existing lines.

    Attributes:
        records: Finished sources by name.
        num_added: Number of records added through this object.

    Raises:
        OSError: The file cannot be written.
    """

    def __init__(self, out: Path, *, resume: bool) -> None:
        self.out = out
        self.num_added = 0
        self._lock = threading.Lock()
        path = out / FILENAME
        records = _load(path) if resume and path.exists() else []
        self.records = {record.name: record for record in records}
        # Rewritten rather than appended to, which removes a line torn by a kill.
        # Bytes of a name that are not UTF-8 are written as JSON writes them: \udcff.
        self._file = open(path, "w", encoding="utf-8", errors="backslashreplace")  # noqa: SIM115
        for record in self.records.values():
            self._write(record)

    def is_done(self, name: str, stamp: str, digest: str, files: Iterable[str]) -> bool:
        """Return whether all files exist, made from the same content in the same way."""
        record = self.records.get(name)
        return (
            record is not None
            and (record.stamp, record.digest) == (stamp, digest)
            and stamp != ""
            and set(files) <= set(record.files)
            and all((self.out / file).is_file() for file in record.files)
        )

    def add(self, record: Record) -> None:
        """Add a finished source; thread-safe."""
        with self._lock:
            self.records[record.name] = record
            self.num_added += 1
            self._write(record)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _write(self, record: Record) -> None:
        self._file.write(json.dumps(asdict(record), ensure_ascii=False) + "\n")
        self._file.flush()


def compute_digest(engine: Engine, *options: Any) -> str:
    """Return a short text that changes with the weights, the card and any option."""
    digest = hashlib.blake2b(digest_size=12)
    digest.update(engine.card.to_json().encode())
    digest.update(json.dumps([engine.name, asdict(engine.tta), engine.precision, options]).encode())
    for part in engine.iterate_weights():
        digest.update(part)
    return digest.hexdigest()


def _load(path: Path) -> list[Record]:
    records = []
    for values in load_objects(path):
        try:
            lists = {key: tuple(values.pop(key)) for key in ("files", "shares")}
            records.append(Record(**{**values, **lists}))
        except (TypeError, KeyError, AttributeError):
            continue  # not a record; its image is predicted again
    return records
