"""Findings in a dataset, with their files."""

from dataclasses import asdict, dataclass
from typing import Any

from atrous.doctor.kinds import KINDS, Kind, Level

MAX_FILES = 1000
"""Maximum number of files that a finding lists; `num_files` counts all of them."""

_MAX_PARTS = 6


@dataclass(frozen=True)
class FoundFile:
    """A file of a finding."""

    path: str  # relative to the folder of the dataset
    detail: str = ""  # what was found in it, such as its values
    pair: int | None = None  # index of its pair, for the examples
    other: int | None = None  # index of the pair that it resembles


@dataclass(frozen=True)
class Finding:
    """One finding in a dataset.

    Attributes:
        code: Key of `KINDS`.
        summary: One sentence with the numbers.
        files: The first `MAX_FILES` files.
        num_files: Number of all files.
        data: Further values for programs, such as a colour table.
    """

    code: str
    summary: str
    files: tuple[FoundFile, ...]
    num_files: int
    data: dict[str, Any]

    @property
    def kind(self) -> Kind:
        """Level, title, reason and fix."""
        return KINDS[self.code]

    @property
    def level(self) -> Level:
        """Level of the finding: `error`, `warning` or `note`."""
        return self.kind.level

    def to_json(self) -> dict[str, Any]:
        """Return the finding as plain values."""
        kind = asdict(self.kind)
        del kind["repaired"]
        files = [{"path": file.path, "detail": file.detail} for file in self.files]
        return {"code": self.code, **kind, **vars(self), "files": files}


def build_findings(
    code: str, summary: str, files: list[FoundFile] | None = None, **data: Any
) -> list[Finding]:
    """Return one finding, or none for an empty list of files; `None` if it is not about files."""
    if files is None:
        return [Finding(code, summary, (), 0, data)]
    return [Finding(code, summary, tuple(files[:MAX_FILES]), len(files), data)] if files else []


def join_parts(parts: list[str]) -> str:
    """Join one phrase per split to a summary, and cut it after the first six."""
    listed = "; ".join(parts[:_MAX_PARTS])
    more = len(parts) - _MAX_PARTS
    return f"{listed}; and {more:,} more of this kind." if more > 0 else f"{listed}."
