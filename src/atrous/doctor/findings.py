"""What was found in a dataset: kinds of findings with their files."""

from dataclasses import dataclass
from typing import Any

from atrous.doctor.kinds import KINDS, Kind, Level

MAX_FILES = 1000
"""Files that a report lists for one finding; the number of all is given beside them."""

_MAX_PARTS = 6


@dataclass(frozen=True)
class FoundFile:
    """A file in which something was found.

    Attributes:
        path: Relative to the folder of the dataset.
        detail: What it is about this file, such as its values; may be empty.
        pair: Index of the pair that shows it, for the examples.
        other: Index of the pair that it resembles.
    """

    path: str
    detail: str = ""
    pair: int | None = None
    other: int | None = None


@dataclass(frozen=True)
class Finding:
    """Something found in a dataset.

    Attributes:
        code: Key of `KINDS`.
        summary: One sentence with the figures.
        files: The first of the files, at most `MAX_FILES`.
        num_files: All of them.
        data: Further figures for programs, such as a colour table.
    """

    code: str
    summary: str
    files: tuple[FoundFile, ...]
    num_files: int
    data: dict[str, Any]

    @property
    def kind(self) -> Kind:
        """Level, title, why and fix."""
        return KINDS[self.code]

    @property
    def level(self) -> Level:
        """How bad it is."""
        return self.kind.level

    def to_json(self) -> dict[str, Any]:
        """Return everything as plain values."""
        return {
            "code": self.code,
            "level": self.level,
            "title": self.kind.title,
            "summary": self.summary,
            "why": self.kind.why,
            "fix": self.kind.fix,
            "num_files": self.num_files,
            "files": [{"path": file.path, "detail": file.detail} for file in self.files],
            "data": self.data,
        }


def build_finding(
    code: str, summary: str, files: list[FoundFile] | None = None, **data: Any
) -> Finding:
    """Make a finding, with as many of its files as a report lists."""
    files = files or []
    return Finding(code, summary, tuple(files[:MAX_FILES]), len(files), data)


def build_findings(code: str, summary: str, files: list[FoundFile], **data: Any) -> list[Finding]:
    """Return the finding of some files, or nothing where there are none."""
    return [build_finding(code, summary, files, **data)] if files else []


def join_parts(parts: list[str]) -> str:
    """Return a summary of what was found in each split, of which there may be hundreds."""
    listed = "; ".join(parts[:_MAX_PARTS])
    more = len(parts) - _MAX_PARTS
    return f"{listed}; and {more:,} more of this kind." if more > 0 else f"{listed}."
