"""Where things stand in a run folder."""

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from atrous.parsing import parse_json


@dataclass(frozen=True)
class RunFolder:
    """The folder that one training leaves behind; every other command takes it."""

    path: Path

    @property
    def recipe(self) -> Path:
        """Everything that was asked for, defaults written out (TOML)."""
        return self.path / "recipe.toml"

    @property
    def plan(self) -> Path:
        """What was derived from recipe and data when the run first started (JSON)."""
        return self.path / "plan.json"

    @property
    def log(self) -> Path:
        """A line per step, validation, session start and session end (JSON lines)."""
        return self.path / "log.jsonl"

    @property
    def checkpoints(self) -> Path:
        """The last training states."""
        return self.path / "checkpoints"

    @property
    def features(self) -> Path:
        """Features of the training images, where a frozen part computes them only once."""
        return self.path / "features"

    @property
    def best(self) -> Path:
        """Weights of the best validation."""
        return self.path / "best.safetensors"

    @property
    def last(self) -> Path:
        """Weights at the end of training."""
        return self.path / "last.safetensors"

    @property
    def evaluation(self) -> Path:
        """Scores and counts per image, a pair of files per split."""
        return self.path / "evaluation"

    @property
    def exports(self) -> Path:
        """Exported files, a record of each with what its gate found, and how fast they are."""
        return self.path / "exports"


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
    """Return the records of a run's log; lines that are none, as one torn by a kill, are left out.

    Those of training, validation and sessions hold the values that they are written with.
    """
    records = map(parse_record, path.read_bytes().splitlines())
    return [record for record in records if record is not None]


Records = dict[str, list[dict[str, Any]]]
"""Records of a log by kind: `train`, `val` and `session`."""


def group_records(log: Iterable[dict[str, Any]]) -> Records:
    """Group the records of a log by kind, in order; a kind without records is an empty list.

    Entries without a kind are skipped.
    """
    records: Records = {"train": [], "val": [], "session": []}
    for record in log:
        if isinstance(record, dict) and "kind" in record:
            records.setdefault(record["kind"], []).append(record)
    return records


def parse_record(line: bytes) -> dict[str, Any] | None:
    """Return the record of one line of a log, or None if the line is no such record."""
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
