"""The record of finished predictions in an output folder, for resuming."""

import hashlib
import json
import os
import re
import threading
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple, Self

from atrous.engines.engine import Engine
from atrous.errors import ConfigError
from atrous.prediction.sources import Source
from atrous.run import load_objects

FILENAME = "predictions.jsonl"


@dataclass(frozen=True)
class Part:
    """One of several parts of a job, which run anywhere in any order.

    A source belongs to a part by the hash of its name, whatever else the job has. Parts are
    numbered from 1 to `total`; other numbers raise ConfigError.
    """

    number: int
    total: int

    def __post_init__(self) -> None:
        if not 1 <= self.number <= self.total:
            raise ConfigError(
                f"There is no part {self.number} of {self.total}: the numbers of the parts are 1 "
                f"to {self.total}."
            )

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse `3/16`; raises ConfigError."""
        match = re.fullmatch(r"(\d{1,9})/(\d{1,9})", text)
        if match is None:
            raise ConfigError(f"--part takes a number and a total, such as 3/16, not '{text}'.")
        return cls(int(match[1]), int(match[2]))

    def contains(self, source: Source) -> bool:
        """Return whether a source belongs to this part."""
        digest = hashlib.blake2b(os.fsencode(source.name), digest_size=8).digest()
        return int.from_bytes(digest, "big") % self.total == self.number - 1

    @property
    def filename(self) -> str:
        """Name of the part's manifest."""
        return f"predictions-{self.number}-of-{self.total}.jsonl"


@dataclass(frozen=True)
class Record:
    """A finished image or video: `name` is the common part of its file names.

    The stamp changes with the content of the source, the digest with the weights and options. Size
    and shares, the last one of ignored pixels, are those of an image.
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

    The folder is created if missing; ConfigError if it cannot be written. A part of a job has a
    file of its own; if it resumes, it skips what the job's file lists, too. To merge takes over the
    lines of all parts. `records` are by name; `num_added` were added through this object.
    """

    def __init__(
        self, out: Path, *, resume: bool, part: Part | None = None, merge: bool = False
    ) -> None:
        self.out = out
        self.num_added = 0
        self._lock = threading.Lock()
        path = out / (part.filename if part else FILENAME)
        try:
            out.mkdir(parents=True, exist_ok=True)
            old = [path] if (resume or merge) and path.exists() else []
            if merge:
                old += self._list_parts()
            own = {record.name: record for one in old for record in _load(one)}
            job = _load(out / FILENAME) if part and resume and (out / FILENAME).exists() else []
            self.records = {record.name: record for record in job} | own
            # Rewritten rather than appended to, which removes a line torn by a kill.
            # Bytes of a name that are not UTF-8 are written as JSON writes them: \udcff.
            self._file = open(path, "w", encoding="utf-8", errors="backslashreplace")  # noqa: SIM115
            for record in own.values():
                self._write(record)
        except OSError as error:
            raise ConfigError(
                f"Cannot write to the output folder {out}: {error.strerror or error}. Choose a "
                "writable folder."
            ) from error

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

    def join_parts(self, *, discard: bool = False) -> None:
        """Take over the lines of all parts, or discard them, and remove the files of the parts."""
        for path in self._list_parts():
            for record in () if discard else _load(path):
                self.add(record)
            path.unlink()

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _list_parts(self) -> list[Path]:
        return sorted(self.out.glob("predictions-*-of-*.jsonl"))

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
