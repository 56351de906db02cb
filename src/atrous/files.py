"""Files that are either whole or not there."""

import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


def write_atomically(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Let `write` fill a file that takes the place of `path` only once it is whole and on disk.

    Raises:
        OSError: As writing raised it; `path` is then as it was, and nothing is left beside it.
    """
    with replace_atomically(path) as temporary, open(temporary, "wb") as file:
        write(file)


@contextmanager
def replace_atomically(path: Path) -> Iterator[Path]:
    """Give a path to write to, whose file takes the place of `path` once the block has ended.

    Raises:
        OSError: The file cannot be put there; if the block raises, `path` is as it was, and
            nothing is left beside it.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        _sync(temporary)
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def compute_file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file as hex digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sync_folder(folder: Path) -> None:
    """Make renames inside a folder survive a power cut."""
    _sync(folder)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
