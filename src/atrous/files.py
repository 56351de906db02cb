"""Files that are either whole or not there."""

import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

_LONG_NAME = 200
"""Bytes of a file name to which nothing can be added for certain; most systems take 255."""


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
    stem = path.name if len(os.fsencode(path.name)) < _LONG_NAME else _shorten(path.name)
    temporary = path.with_name(f".{stem}.{os.getpid()}.tmp")
    try:
        yield temporary
        _sync(temporary)
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def is_utf8(name: Path | str) -> bool:
    """Return whether a file name is UTF-8, so that every library can open it and write it down."""
    try:
        str(name).encode()
    except UnicodeEncodeError:
        return False
    return True


def compute_file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file as hex digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sync_folder(folder: Path) -> None:
    """Make renames inside a folder survive a power cut."""
    _sync(folder)


def _shorten(name: str) -> str:
    return hashlib.blake2b(os.fsencode(name), digest_size=16).hexdigest()


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
