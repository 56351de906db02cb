"""Images inside zip and tar archives, read without unpacking them, within budgets of memory."""

import io
import lzma
import os
import sys
import tarfile
import threading
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, cast
from weakref import WeakSet

from atrous.data.image_file import read_image_size
from atrous.data.pairs import IMAGE_SUFFIXES
from atrous.errors import DataError

SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")

MAX_MEMBER_BYTES = 2**31
"""A member that unpacks to more is refused: a small archive can hold a huge file."""

MAX_EXTRA_BYTES, MAX_BYTES_PER_PIXEL = 2**28, 8
"""What a member may unpack to: the larger of the first, and the second for each pixel that the
header of its image states."""

MAX_HELD_BYTES = 2**29
"""Members that are held in memory at the same time; others are unpacked as they are read."""

MAX_MEMBERS, MAX_TAR_HEADER_BYTES = 500_000, 2**20
MAX_TAR_BYTES, MAX_TAR_RATIO = 2**32, 200
"""What a compressed tar may unpack to while it is searched: the larger of the first, and the second
times its own size."""

_CHUNK_BYTES = 2**20

_UNREADABLE = (
    OSError, EOFError, RuntimeError, NotImplementedError, ValueError,
    zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError,
)  # fmt: skip


@dataclass(frozen=True)
class Member:
    """An image in an archive.

    Attributes:
        name: Its path inside.
        stamp: Changes when its content does.
        fetch: Returns it as a file; raises DataError where it is damaged or too large, as reading
            the file does.
    """

    name: str
    stamp: str
    fetch: Callable[[], BinaryIO]


def is_archive(path: Path) -> bool:
    """Return whether a path ends like an archive's."""
    return path.name.lower().endswith(SUFFIXES)


def list_archive(path: Path) -> Iterator[Member]:
    """Give the images in an archive by their suffix, hidden files left out, in its own order.

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
        if not info.is_dir() and _is_image(info.filename):
            reopen = partial(archive.open, info)
            fetch = partial(_fetch, f"{info.filename} in the archive {path}", reopen, reopen)
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
            fetch = partial(_fetch, f"{info.name} in the archive {path}", open_member, reopen)
            yield Member(info.name, f"{info.size}-{info.mtime}", fetch)


def _extract_anew(path: Path, info: tarfile.TarInfo) -> Any:
    return _TarFile.open(path).extractfile(info)


def _is_image(name: str) -> bool:
    path = PurePosixPath(name.replace("\\", "/"))
    hidden = any(part.startswith(".") and part not in (".", "..") for part in path.parts)
    return not hidden and path.suffix.lower() in IMAGE_SUFFIXES and "__MACOSX" not in path.parts


def _fetch(where: str, open_member: Callable[[], Any], reopen: Callable[[], Any]) -> BinaryIO:
    """Return a member: in memory where the budgets allow it, else unpacked as it is read."""
    member, whole = MemberFile(open_member, where), io.BytesIO()
    with _HOLDING:
        held_bytes = sum(held.getbuffer().nbytes for held in _HELD)
    room = min(MAX_EXTRA_BYTES, MAX_HELD_BYTES - held_bytes)
    while chunk := member.read(_CHUNK_BYTES):
        whole.write(chunk)
        if whole.tell() > room:
            break
    else:
        whole.seek(0)
        with _HOLDING:
            _HELD.add(whole)
        return whole
    num_bytes = whole.tell()
    whole.close()
    member = MemberFile(reopen, where)
    file = cast(BinaryIO, io.BufferedReader(member, _CHUNK_BYTES))
    height, width = read_image_size(file, name=where)
    budget = max(MAX_EXTRA_BYTES, MAX_BYTES_PER_PIXEL * height * width)
    member.limit = min(budget, MAX_MEMBER_BYTES)
    if num_bytes > member.limit:
        raise member.explain_size()
    return file


_HELD: WeakSet[io.BytesIO] = WeakSet()
_HOLDING = threading.Lock()


class MemberFile(io.RawIOBase):
    """A member as a file that is unpacked as it is read, and anew where it goes back.

    Args:
        open_member: Opens the member for reading forward.
        where: What to call it in errors.

    Attributes:
        limit: Bytes that it may unpack to, whatever the archive states.
    """

    def __init__(self, open_member: Callable[[], Any], where: str) -> None:
        self.limit = min(2 * MAX_EXTRA_BYTES, MAX_MEMBER_BYTES)  # for its header
        self._open, self._where = open_member, where
        self._stream: Any = None
        self._unpacked = self._position = 0

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def tell(self) -> int:
        """Return the position."""
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move to a position; from the end by unpacking it all."""
        if whence == io.SEEK_END:
            while self._unpack(_CHUNK_BYTES):
                pass
            offset += self._unpacked
        elif whence == io.SEEK_CUR:
            offset += self._position
        self._position = max(0, offset)
        return self._position

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer from the position on; return how many bytes there were.

        Raises:
            DataError: The member is damaged, or unpacks to more than the limit.
        """
        if self._unpacked > self._position:
            self._stream, self._unpacked = None, 0
        while self._unpacked < self._position:
            if not self._unpack(self._position - self._unpacked):
                return 0
        data = self._unpack(len(buffer))
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)

    def _unpack(self, size: int) -> bytes:
        try:
            if self._stream is None:
                self._stream = self._open()
            data = self._stream.read(min(size, _CHUNK_BYTES))
        except _UNREADABLE as error:
            raise DataError(
                f"Cannot read {self._where}: {error}. Fetch or pack the archive again."
            ) from error
        self._unpacked += len(data)
        if self._unpacked > self.limit:
            raise self.explain_size()
        return data

    def explain_size(self) -> DataError:
        """Return the error for a member that unpacks to more than the limit."""
        return DataError(
            f"{self._where} unpacks to more than {self.limit / 1e6:,.0f} MB, the most that is "
            "taken for an image of its size. If it is what it should be, unpack it and give the "
            "file itself."
        )


class _TarFile(tarfile.TarFile):
    """Reads a tar with a limit on the length of its headers and on what it is unpacked to."""

    def __init__(self, name: Any, mode: Any, fileobj: Any) -> None:
        max_bytes = max(MAX_TAR_BYTES, MAX_TAR_RATIO * os.path.getsize(name))
        if fileobj is None:  # no decompressor: nothing grows
            fileobj, max_bytes = open(name, "rb"), sys.maxsize  # noqa: SIM115 (read later)
        super().__init__(name, mode, cast(Any, _BoundedReads(fileobj, max_bytes)))


class _BoundedReads:
    def __init__(self, file: Any, max_bytes: int) -> None:
        self._file, self._max_bytes = file, max_bytes

    def read(self, size: int) -> bytes:
        if size > MAX_TAR_HEADER_BYTES:
            raise tarfile.ReadError(f"a header of {size / 1e6:,.0f} MB")
        return self._file.read(size)

    def seek(self, position: int) -> int:
        if position > self._max_bytes:
            raise tarfile.ReadError(f"it unpacks to more than {self._max_bytes / 1e9:,.0f} GB")
        return self._file.seek(position)

    def tell(self) -> int:
        return self._file.tell()

    def close(self) -> None:
        self._file.close()
