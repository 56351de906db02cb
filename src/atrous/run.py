"""Paths, lock and log of a run folder."""

import fcntl
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from atrous.errors import ConfigError
from atrous.parsing import parse_json


class RunFolder:
    """The folder of one training, which every other command takes.

    Attributes:
        recipe: All settings of the training (TOML).
        plan: Values derived from recipe and data when the run first started (JSON).
        log: A line per step, validation, session start and session end (JSON lines).
        checkpoints: Folder of the latest checkpoints.
        features: Folder of the cached features of a frozen part.
        decoded: Folder of the decoded training images, until the run is finished.
        best: Weights of the best validation.
        last: Weights at the end of training.
        evaluation: Folder of scores and counts per image, two files per split.
        exports: Folder of exported files, their records and their measured speed.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.recipe = path / "recipe.toml"
        self.plan = path / "plan.json"
        self.log = path / "log.jsonl"
        self.checkpoints = path / "checkpoints"
        self.features = path / "features"
        self.decoded = path / "decoded"
        self.best = path / "best.safetensors"
        self.last = path / "last.safetensors"
        self.evaluation = path / "evaluation"
        self.exports = path / "exports"

    def remove_decoded(self) -> None:
        """Remove the decoded training images."""
        with suppress(OSError):
            for pattern in ("*.safetensors", ".*.tmp"):
                for path in self.decoded.glob(pattern):
                    path.unlink()
            self.decoded.rmdir()

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Lock the folder against other trainings; the lock ends with the process.

        This is a record lock, which worker processes that outlive a killed parent do not inherit.

        Raises:
            ConfigError: Another training has locked it.
        """
        path = self.path / ".lock"
        self.path.mkdir(parents=True, exist_ok=True)
        with open(path, "w", encoding="utf-8") as file:
            try:
                fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise ConfigError(
                    f"Another training is writing to {self.path}. Wait for it, stop it, or give "
                    "another --out."
                ) from None
            for leftover in self.path.glob(".*.tmp"):  # incomplete files of a killed session
                leftover.unlink()
            try:
                yield
            finally:
                if not self.recipe.exists():  # the run did not start: remove the folder
                    path.unlink(missing_ok=True)
                    self.remove_decoded()
                    with suppress(OSError):
                        self.path.rmdir()


class _Record(BaseModel):
    """What every reader of a log relies on."""

    kind: str
    step: int


class _TrainRecord(_Record):
    epoch: float
    loss: float
    lr: float
    step_s: float | None = None


class _ValRecord(_Record):
    epoch: float
    loss: float | None
    miou: float
    val_s: float | None = None


class _SessionRecord(_Record):
    event: str


_RECORDS: dict[str, type[_Record]] = {
    "train": _TrainRecord,
    "val": _ValRecord,
    "session": _SessionRecord,
}


def load_log(path: Path) -> list[dict[str, Any]]:
    """Return the records of a run's log; incomplete or malformed lines are left out."""
    records = map(parse_record, path.read_bytes().splitlines())
    return [record for record in records if record is not None]


Records = dict[str, list[dict[str, Any]]]
"""Records of a log by kind: `train`, `val` and `session`."""


def group_records(log: Iterable[dict[str, Any]]) -> Records:
    """Group the records of a log by kind, in order; records without a kind are skipped."""
    records: Records = {"train": [], "val": [], "session": []}
    for record in log:
        if isinstance(record, dict) and "kind" in record:
            records.setdefault(record["kind"], []).append(record)
    return records


def parse_record(line: bytes) -> dict[str, Any] | None:
    """Return the record of one line of a log, or None if the line is not such a record."""
    try:
        record = parse_json(line)
        _RECORDS.get(record["kind"], _Record).model_validate(record, strict=True)
    except (ValueError, TypeError, LookupError):
        return None
    return dict(record)


def load_objects(path: Path) -> list[dict[str, Any]]:
    """Return the objects in a file of JSON lines; other lines are left out."""
    objects = []
    for line in path.read_bytes().splitlines():
        with suppress(ValueError):
            objects.append(parse_json(line))
    return [values for values in objects if isinstance(values, dict)]
