"""What a run remembers of its exports: where they are, what they were made of, their gates."""

import hashlib
import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, ConfigDict, Field, TypeAdapter

from atrous.errors import WeightsError
from atrous.files import compute_file_sha256, write_atomically
from atrous.models.card import check_name, read_strictly
from atrous.parsing import parse_json
from atrous.run import RunFolder

SPEED_FILE = "speed.json"


@dataclass(frozen=True)
class ExportRecord:
    """One exported file, and what its gate found.

    Attributes:
        name: The target, and the size if it takes only one: `openvino-int8-513x513`.
        target: What it was exported to.
        files: The file to open first, then those that belong to it; relative to the record's
            folder where they lie in it.
        sha256: Of each file.
        weights_sha256: Of the weights it was made of, see `compute_weights_hash`.
        size_hw: The only size it takes; None for any.
        uint8_input: Whether normalisation is inside.
        mask_output: Whether the comparison of the classes is inside.
        gates: What the gate found, by precision; `passed` says how it ended.
        data: Which images the gate saw: root, split, fingerprint, num_images.
        versions: Of the packages that made it.
    """

    name: Annotated[str, AfterValidator(check_name)]
    target: str
    files: Annotated[tuple[str, ...], Field(min_length=1)]
    sha256: tuple[str, ...]
    weights_sha256: str
    size_hw: tuple[int, int] | None
    uint8_input: bool
    mask_output: bool
    gates: dict[str, dict[str, Any]]
    data: dict[str, Any]
    versions: dict[str, str] = field(default_factory=dict)

    __pydantic_config__ = ConfigDict(extra="forbid")

    def passed(self, precision: str) -> bool:
        """Say whether the gate of a precision was passed."""
        return bool(self.gates.get(precision, {}).get("passed"))


def save_record(path: Path, record: ExportRecord) -> None:
    """Write a record as JSON.

    Raises:
        OSError: It cannot be written.
    """
    text = json.dumps(asdict(record), indent=2) + "\n"
    write_atomically(path, lambda file: file.write(text.encode()))


def load_records(run: RunFolder) -> dict[str, ExportRecord]:
    """Return the records of a run by name; what is no record is left out."""
    records = {}
    for path in sorted(run.exports.glob("*.json")):
        if path.name == SPEED_FILE:
            continue
        with suppress(OSError, ValueError):
            record = read_strictly(TypeAdapter(ExportRecord), parse_json(path.read_bytes()))
            if len(record.files) == len(record.sha256):
                records[record.name] = record
    return records


def find_files(run: RunFolder, record: ExportRecord) -> list[Path]:
    """Return the files of a record, checked to be those that passed the gate.

    Raises:
        WeightsError: One is missing or is another than it was.
    """
    paths = [run.exports / name for name in record.files]
    for path, sha256 in zip(paths, record.sha256, strict=True):
        if not path.is_file():
            raise WeightsError(
                f"The export {record.name} of {run.path} has lost its file {path}. Export it again."
            )
        if compute_file_sha256(path) != sha256:
            raise WeightsError(
                f"{path} is not the file that passed the gate of {record.name}: it was changed, "
                "damaged or replaced since. Export it again."
            )
    return paths


def name_export(target: str, size_hw: Sequence[int] | None) -> str:
    """Return what an export is called, as an engine and in file names."""
    return f"{target}-{size_hw[0]}x{size_hw[1]}" if size_hw else target


def compute_weights_hash(path: Path) -> str:
    """Return the SHA-256 of the tensors in a safetensors file; a new temperature changes nothing.

    Raises:
        WeightsError: It cannot be read.
    """
    try:
        with open(path, "rb") as file:
            file.seek(int.from_bytes(file.read(8), "little"), 1)
            return hashlib.file_digest(file, "sha256").hexdigest()
    except (OSError, OverflowError, ValueError) as error:
        raise WeightsError(f"{path} cannot be read: {error}. Give another weights file.") from error
