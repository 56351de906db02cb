"""Images in zip and tar archives, read in place within memory budgets."""

import io
import lzma
import os
import shutil
import sys
import tarfile
import threading
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, NamedTuple, cast
from weakref import WeakSet

from atrous.data.pairs import IMAGE_SUFFIXES
from atrous.errors import DataError
from atrous.images.image_file import read_image_size

SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")

MAX_MEMBER_BYTES = 2**31  # unpacked

MAX_EXTRA_BYTES, MAX_BYTES_PER_PIXEL = 2**28, 8
"""A member may unpack to the larger of `MAX_EXTRA_BYTES` and `MAX_BYTES_PER_PIXEL` for each pixel
that its image header states."""

MAX_HELD_BYTES = 2**29
"""Total size of the members held in memory at a time; others are unpacked as they are read."""

MAX_MEMBERS, MAX_TAR_HEADER_BYTES = 500_000, 2**20
MAX_TAR_BYTES, MAX_TAR_RATIO = 2**32, 200
"""While it is listed, a compressed tar may unpack to the larger of `MAX_TAR_BYTES` and
`MAX_TAR_RATIO` times its own size."""

_CHUNK_BYTES = 2**20

_UNREADABLE = (
    OSError, EOFError, RuntimeError, NotImplementedError, ValueError,
    zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError,
)  # fmt: skip


class Member(NamedTuple):
    """An image in an archive; the stamp changes with its content.

    `fetch` returns the file. It, and reading, raise DataError if it is damaged or too large.
    """

    name: str
    stamp: str
    fetch: Callable[[], BinaryIO]


def is_archive(path: Path) -> bool:
    """Return whether a path has the suffix of an archive."""
    return path.name.lower().endswith(SUFFIXES)


def list_archive(path: Path) -> Iterator[Member]:
    """Yield the images of an archive, by suffix and in its own order; raises DataError."""
    try:
        yield from (_list_zip if path.name.lower().endswith(".zip") else _list_tar)(path)
    except _UNREADABLE as error:
        raise DataError(
            f"Cannot read the archive {path}: {error}. Fetch or pack it again; expected are "
            f"archives that end in {', '.join(SUFFIXES)}."
        ) from error


def _list_zip(path: Path) -> Iterator[Member]:
    archive = zipfile.ZipFile(path)
    for info in archive.infolist():
        if not info.is_dir() and _is_image(info.filename):
            reopen = partial(archive.open, info)
            where = f"{info.filename} in the archive {path}"
            fetch = partial(_fetch, where, info.file_size, reopen, reopen)
            yield Member(info.filename, f"{info.file_size}-{info.CRC:08x}", fetch)


def _list_tar(path: Path) -> Iterator[Member]:
    archive = _TarFile.open(path)
    last = -1
    for number, info in enumerate(archive):
        if number >= MAX_MEMBERS or info.offset <= last or info.size < 0:
            raise tarfile.ReadError(f"it has more than {MAX_MEMBERS:,} members, or goes in circles")
        last = info.offset
        if info.isreg() and _is_image(info.name):
            open_member = partial(archive.extractfile, info)
            reopen = partial(_extract_anew, path, info)
            where = f"{info.name} in the archive {path}"
            fetch = partial(_fetch, where, info.size, open_member, reopen)
            yield Member(info.name, f"{info.size}-{info.mtime}", fetch)


def _extract_anew(path: Path, info: tarfile.TarInfo) -> Any:
    return _TarFile.open(path).extractfile(info)


def _is_image(name: str) -> bool:
    path = PurePosixPath(name.replace("\\", "/"))
    hidden = any(part.startswith(".") and part not in (".", "..") for part in path.parts)
    return not hidden and path.suffix.lower() in IMAGE_SUFFIXES and "__MACOSX" not in path.parts


_held: WeakSet[io.BytesIO] = WeakSet()
_held_lock = threading.Lock()


def _fetch(
    where: str, num_bytes: int, open_member: Callable[[], Any], reopen: Callable[[], Any]
) -> BinaryIO:
    """Return a member: in memory if the budgets allow it, else as a file unpacked on reading.

    Neither `zipfile` nor `tarfile` reads more of a member than the `num_bytes` that the archive
    states for it.
    """
    with _held_lock:
        held_bytes = sum(file.getbuffer().nbytes for file in _held)
    if num_bytes <= min(MAX_EXTRA_BYTES, MAX_HELD_BYTES - held_bytes, MAX_MEMBER_BYTES):
        member = _MemberFile(open_member, where)
        content = io.BytesIO()
        shutil.copyfileobj(member, content, _CHUNK_BYTES)
        content.seek(0)
        with _held_lock:
            _held.add(content)
        return content
    member = _MemberFile(reopen, where)
    file = cast(BinaryIO, io.BufferedReader(member, _CHUNK_BYTES))
    if num_bytes <= MAX_MEMBER_BYTES:
        height, width = read_image_size(file, name=where)
        budget = max(MAX_EXTRA_BYTES, MAX_BYTES_PER_PIXEL * height * width)
        member.max_bytes = min(budget, MAX_MEMBER_BYTES)
    if num_bytes > member.max_bytes:
        raise member.build_size_error()
    return file


class _MemberFile(io.RawIOBase):
    """A member as a seekable file whose errors are DataErrors; `max_bytes` limits the position."""

    def __init__(self, open_member: Callable[[], Any], where: str) -> None:
        self.max_bytes = min(2 * MAX_EXTRA_BYTES, MAX_MEMBER_BYTES)  # until the header is known
        self._where = where
        with self._explain_errors():
            self._file = open_member()

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        with self._explain_errors():
            return self._file.seek(offset, whence)

    def readinto(self, buffer: Any) -> int:
        with self._explain_errors():
            data = self._file.read(min(len(buffer), _CHUNK_BYTES))
            if self._file.tell() > self.max_bytes:
                raise self.build_size_error()
        buffer[: len(data)] = data
        return len(data)

    @contextmanager
    def _explain_errors(self) -> Iterator[None]:
        try:
            yield
        except _UNREADABLE as error:
            raise DataError(
                f"Cannot read {self._where}: {error}. Fetch or pack the archive again."
            ) from error

    def build_size_error(self) -> DataError:
        return DataError(
            f"{self._where} unpacks to more than {self.max_bytes / 1e6:,.0f} MB, the maximum for "
            "an image of its size. If the file is valid, unpack it and give the file itself."
        )


class _TarFile(tarfile.TarFile):
    """A tar file with limits on the size of headers and on the unpacked size."""

    def __init__(self, name: Any, mode: Any, fileobj: Any) -> None:
        max_bytes = max(MAX_TAR_BYTES, MAX_TAR_RATIO * os.path.getsize(name))
        if fileobj is None:  # not compressed
            fileobj, max_bytes = open(name, "rb"), sys.maxsize  # noqa: SIM115 (read later)
        super().__init__(name, mode, cast(Any, _BoundedReads(fileobj, max_bytes)))


class _BoundedReads:
    def __init__(self, file: Any, max_bytes: int) -> None:
        self._file, self._max_bytes = file, max_bytes
        self.tell, self.close, self.seekable = file.tell, file.close, file.seekable

    def read(self, size: int) -> bytes:
        if size > MAX_TAR_HEADER_BYTES:
            raise tarfile.ReadError(f"a header of {size / 1e6:,.0f} MB")
        return self._file.read(size)

    def seek(self, position: int) -> int:
        if position > self._max_bytes:
            raise tarfile.ReadError(f"it unpacks to more than {self._max_bytes / 1e9:,.0f} GB")
        return self._file.seek(position)
