"""What a folder of predictions holds and how it came about, so that it can be gone on with."""

import hashlib
import json
import threading
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from atrous.engines.engine import Engine
from atrous.run import load_objects

FILENAME = "predictions.jsonl"


@dataclass(frozen=True)
class Record:
    """An image or clip that is done.

    Attributes:
        name: What its files are called, without their endings.
        source: Where it came from.
        stamp: Stands for its content at that time.
        digest: Stands for the weights and options.
        files: What was written, relative to the folder.
        height: Of the image, in pixels; 0 for a clip.
        width: Likewise.
        shares: Of each class, then of void; empty for a clip.
    """

    name: str
    source: str
    stamp: str
    digest: str
    files: tuple[str, ...]
    height: int = 0
    width: int = 0
    shares: tuple[float, ...] = ()


class Manifest:
    """The file `predictions.jsonl` in the output folder: a line for all that is done.

    Args:
        out: The folder, which exists.
        resume: Whether to keep the lines that are there.

    Attributes:
        records: What is done, by name.
        num_added: How much of it since this object was made.

    Raises:
        OSError: The file cannot be written.
    """

    def __init__(self, out: Path, *, resume: bool) -> None:
        self.out = out
        self.records: dict[str, Record] = {}
        self.num_added = 0
        self._lock = threading.Lock()
        path = out / FILENAME
        if resume and path.exists():
            self.records = {record.name: record for record in _load(path)}
        # Written anew rather than appended to: a line that a kill has torn is gone.
        # Bytes of a name that are no UTF-8 are written as JSON writes them: \udcff.
        self._file = open(path, "w", encoding="utf-8", errors="backslashreplace")  # noqa: SIM115
        for record in self.records.values():
            self._write(record)

    def is_done(self, name: str, stamp: str, digest: str, files: Iterable[str]) -> bool:
        """Return whether all these files are there, made of the same content in the same way."""
        record = self.records.get(name)
        return (
            record is not None
            and (record.stamp, record.digest) == (stamp, digest)
            and stamp != ""
            and set(files) <= set(record.files)
            and all((self.out / file).is_file() for file in record.files)
        )

    def add(self, record: Record) -> None:
        """Note that an image is done; may be called from any thread."""
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
    """Return a short text that changes with the weights, the card or any option."""
    digest = hashlib.blake2b(digest_size=12)
    digest.update(engine.card.to_json().encode())
    looks = [engine.name, asdict(engine.tta), engine.precision, options]
    digest.update(json.dumps(looks).encode())
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
            continue  # written by something else; its image is done again
    return records
