"""Exceptions with messages for the user, and warnings."""

import difflib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any


class AtrousError(Exception):
    """Base class of the errors that a user can correct; the message says how."""


class ConfigError(AtrousError):
    """Invalid option, recipe key or name."""


class DataError(AtrousError):
    """Dataset, image or mask that cannot be used; the message names the file."""


class LayoutError(DataError):
    """Folder that holds no dataset of a known layout."""

    def __init__(self, message: str, root: Path) -> None:
        super().__init__(message)
        self.root = root


class StorageError(AtrousError):
    """Shard or remote file that cannot be read; it ends a pass over a dataset."""


class WeightsError(AtrousError):
    """Weights file that is missing, damaged or of another model."""


class CheckpointError(AtrousError):
    """Checkpoint that cannot be saved or read."""


class ExportError(AtrousError):
    """Model that cannot be exported, or an export that differs from its original."""


class TrainingError(AtrousError):
    """Training that cannot continue, for example because the loss is not finite."""


class AtrousWarning(UserWarning):
    """Base class of the package's warnings; the command prints them as one paragraph."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return `" Did you mean 'x'?"` for similar known names, else a list of all, else ''."""
    known = sorted(known)
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    if near:
        return " Did you mean " + " or ".join(f"'{match}'" for match in near) + "?"
    return f" Known: {', '.join(known)}." if known else ""


def shorten(items: Sequence[Any], max_items: int = 10) -> str:
    """Return the first items separated by commas, with `…` if some are left out."""
    return ", ".join(map(str, items[:max_items])) + (", …" if len(items) > max_items else "")
