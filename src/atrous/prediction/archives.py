"""Pictures inside zip and tar archives, read without unpacking them."""

import lzma
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

from atrous.data.pairs import IMAGE_SUFFIXES
from atrous.errors import DataError

SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")

MAX_MEMBER_BYTES = 2**31
"""A member that unpacks to more is refused: a small archive can hold a huge file."""

_UNREADABLE = (
    OSError, EOFError, RuntimeError, NotImplementedError, ValueError,
    zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError,
)  # fmt: skip


@dataclass(frozen=True)
class Member:
    """A picture in an archive.

    Attributes:
        name: Its path inside.
        stamp: Changes when its content does.
        fetch: Returns its bytes; raises DataError where it is damaged or too large.
    """

    name: str
    stamp: str
    fetch: Callable[[], BinaryIO]


def is_archive(path: Path) -> bool:
    """Return whether a path ends like an archive's."""
    return path.name.lower().endswith(SUFFIXES)


def list_archive(path: Path) -> Iterator[Member]:
    """Give the pictures in an archive by their suffix, hidden files left out, in its own order.

    Raises:
        DataError: The archive cannot be read.
    """
    try:
        if path.name.lower().endswith(".zip"):
            yield from _list_zip(path)
        else:
            yield from _list_tar(path)
    except _UNREADABLE as error:
        raise DataError(
            f"Cannot read the archive {path}: {error}. Fetch or pack it again; expected are "
            f"archives that end in {', '.join(SUFFIXES)}."
        ) from error


def _list_zip(path: Path) -> Iterator[Member]:
    archive = zipfile.ZipFile(path)
    for info in archive.infolist():
        if not info.is_dir() and _is_picture(info.filename):
            fetch = partial(_fetch, path, info.filename, info.file_size, archive.open, info)
            yield Member(info.filename, f"{info.file_size}-{info.CRC:08x}", fetch)


def _list_tar(path: Path) -> Iterator[Member]:
    archive = tarfile.open(path)  # noqa: SIM115 (its members are read later)
    for info in archive.getmembers():
        if info.isreg() and _is_picture(info.name):
            fetch = partial(_fetch, path, info.name, info.size, archive.extractfile, info)
            yield Member(info.name, f"{info.size}-{info.mtime}", fetch)


def _is_picture(name: str) -> bool:
    path = PurePosixPath(name.replace("\\", "/"))
    hidden = any(part.startswith(".") and part not in (".", "..") for part in path.parts)
    return not hidden and path.suffix.lower() in IMAGE_SUFFIXES and "__MACOSX" not in path.parts


def _fetch(
    path: Path, name: str, num_bytes: int, open_member: Callable[..., Any], info: object
) -> BinaryIO:
    if num_bytes > MAX_MEMBER_BYTES:
        raise DataError(
            f"{path}:{name} unpacks to {num_bytes / 1e9:.1f} GB, where at most "
            f"{MAX_MEMBER_BYTES / 1e9:.1f} GB are read from an archive. Unpack it and give the "
            "file itself."
        )
    try:
        with open_member(info) as file:
            return BytesIO(file.read())
    except _UNREADABLE as error:
        raise DataError(
            f"Cannot read {name} in the archive {path}: {error}. Fetch or pack the archive again."
        ) from error
