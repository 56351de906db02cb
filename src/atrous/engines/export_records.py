"""Records of the exports of a run: their files, weights and gate results."""

import hashlib
import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, ConfigDict, Field

from atrous.errors import WeightsError
from atrous.files import compute_file_sha256, write_atomically
from atrous.models.card import check_name, read_strictly
from atrous.parsing import parse_json
from atrous.run import RunFolder

SPEED_FILE = "speed.json"


@dataclass(frozen=True)
class ExportRecord:
    """An exported file and its gate results.

    Attributes:
        name: Export target, followed by the size if it is fixed: `openvino-int8-513x513`.
        target: Export target, such as `openvino-int8`.
        files: The file to open, followed by the others; relative to the folder of the record if
            they are inside.
        weights_sha256: Hash of the exported weights, see `compute_weights_hash`.
        size_hw: Height and width of the images; None for any size.
        uint8_input: Whether the file normalizes images.
        mask_output: Whether the file returns class indices instead of logits.
        gates: `GateResult` values by precision.
        data: Images of the gate: root, split, fingerprint, num_images.
        versions: Versions of the packages that wrote the file.
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
        """Return whether the file passed the gate in a precision."""
        return bool(self.gates.get(precision, {}).get("passed"))


def save_record(path: Path, record: ExportRecord) -> None:
    """Write a record as JSON.

    Raises:
        OSError: The file cannot be written.
    """
    text = json.dumps(asdict(record), indent=2) + "\n"
    write_atomically(path, lambda file: file.write(text.encode()))


def load_records(run: RunFolder) -> dict[str, ExportRecord]:
    """Return the records of a run by name, without invalid ones."""
    records = {}
    for path in sorted(run.exports.glob("*.json")):
        if path.name == SPEED_FILE:
            continue
        with suppress(OSError, ValueError):
            record = read_strictly(ExportRecord, parse_json(path.read_bytes()))
            if len(record.files) == len(record.sha256):
                records[record.name] = record
    return records


def find_files(run: RunFolder, record: ExportRecord) -> list[Path]:
    """Return the files of a record after checking their hashes.

    Raises:
        WeightsError: A file is missing or has changed.
    """
    paths = [run.exports / name for name in record.files]
    for path, sha256 in zip(paths, record.sha256, strict=True):
        if not path.is_file():
            raise WeightsError(
                f"The file {path} of the export {record.name} is missing. Export it again."
            )
        if compute_file_sha256(path) != sha256:
            raise WeightsError(
                f"{path} is not the file that passed the gate of {record.name}: it was changed or "
                "damaged since. Export it again."
            )
    return paths


def name_export(target: str, size_hw: Sequence[int] | None) -> str:
    """Return the name of an export, for its engine and files."""
    return f"{target}-{size_hw[0]}x{size_hw[1]}" if size_hw else target


def compute_weights_hash(path: Path) -> str:
    """Return the SHA-256 of the tensors in a safetensors file, without its metadata.

    Raises:
        WeightsError: The file cannot be read.
    """
    try:
        with open(path, "rb") as file:
            file.seek(int.from_bytes(file.read(8), "little"), 1)
            return hashlib.file_digest(file, "sha256").hexdigest()
    except (OSError, OverflowError, ValueError) as error:
        raise WeightsError(f"{path} cannot be read: {error}. Give another weights file.") from error
