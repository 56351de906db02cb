"""Atomic writing, hashing and sizes of files."""

import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

_MAX_NAME_BYTES = 200
"""Longest file name that is part of a temporary name; most systems allow 255 bytes."""


def write_atomically(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Write a file with `write` and move it to `path` when it is complete and on disk.

    Raises:
        OSError: Writing failed; `path` is unchanged and no temporary file remains.
    """
    with replace_atomically(path) as temporary, open(temporary, "wb") as file:
        write(file)


@contextmanager
def replace_atomically(path: Path) -> Iterator[Path]:
    """Provide a temporary path whose file is moved to `path` at the end of the block.

    If the block raises, `path` is unchanged and the temporary file is removed.

    Raises:
        OSError: The file cannot be moved to `path`.
    """
    stem, encoded = path.name, os.fsencode(path.name)
    if len(encoded) >= _MAX_NAME_BYTES:
        stem = hashlib.blake2b(encoded, digest_size=16).hexdigest()
    temporary = path.with_name(f".{stem}.{os.getpid()}.tmp")
    try:
        yield temporary
        sync(temporary)
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync(path.parent)


def is_utf8(name: Path | str) -> bool:
    """Return whether a file name is valid UTF-8."""
    try:
        str(name).encode()
    except UnicodeEncodeError:
        return False
    return True


def compute_file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file as hex digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_free_bytes(folder: Path) -> int:
    """Return the free disk space of a folder, which need not exist yet."""
    existing = next(place for place in (folder, *folder.resolve().parents) if place.exists())
    return shutil.disk_usage(existing).free


def format_bytes(num_bytes: float) -> str:
    """Format a number of bytes, for example as 3.1 MB or 41 GB."""
    for unit in ("kB", "MB", "GB"):
        num_bytes /= 1000
        if num_bytes < 1000 or unit == "GB":
            break
    return f"{num_bytes:.1f} {unit}" if num_bytes < 10 else f"{num_bytes:.0f} {unit}"


def sync(path: Path) -> None:
    """Flush a file, or the renames inside a folder, to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
