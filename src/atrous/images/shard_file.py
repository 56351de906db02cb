"""Files of a dataset: paths, and files in tar shards, which are read by position."""

import hashlib
import threading
import zlib
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path, PurePosixPath
from typing import Annotated, BinaryIO, Literal, NamedTuple

from pydantic import Field

from atrous.errors import StorageError
from atrous.images.remote import is_url, open_cache, read_remote

INDEX = "shards.json"

_last = threading.local()
_Number = Annotated[int, Field(ge=0, lt=2**63)]


class Position(NamedTuple):
    """Position of a sample in the shards of a split."""

    name: str  # stem, unique within the split
    suffixes: tuple[str, str]  # of image and mask
    shard: _Number  # its number
    start: _Number  # first byte of the image
    size: _Number  # bytes from there to the end of the mask
    crc32: _Number  # of these bytes
    file_sizes: tuple[_Number, _Number]  # of the image, which is first, and of the mask, the last


@dataclass(frozen=True, slots=True)
class ShardFile:
    """An image or a mask in a shard, with the properties of a `Path` that messages need."""

    root: str  # folder or URL of the dataset
    split: str
    position: Position  # of the sample
    kind: Literal[0, 1]  # 0 for the image, 1 for the mask

    def read_bytes(self) -> bytes:
        """Return the content of the file.

        The last sample of each thread is kept, since an image and its mask are read in turn.

        Raises:
            StorageError: The shard is missing, unreadable, cut off or changed.
            ConfigError: A package for this kind of URL is missing.
        """
        sample = self.root, self.split, self.position
        if getattr(_last, "sample", None) != sample:
            _last.content = self._read_remote() if is_url(self.root) else self._read_local()
            _last.sample = sample
        content: bytes = _last.content
        return content[len(content) - self.size :] if self.kind else content[: self.size]

    def _read_local(self) -> bytes:
        path = Path(self.root, self.shard)
        try:
            with open(path, "rb") as file:
                file.seek(self.position.start)
                content = file.read(self.position.size)
            problem = self._find_problem(content)
        except OSError as error:
            problem = error.strerror or str(error)
        if problem is not None:
            raise StorageError(
                f"Cannot read the shard {path}: {problem}. Copy it again, or write the shards "
                "again with `atrous data shard`."
            )
        return content

    def _read_remote(self) -> bytes:
        cache, url, position = open_cache(), f"{self.root}/{self.shard}", self.position
        key = hashlib.sha256(f"{url} {position}".encode()).hexdigest()
        content = cache.get(key)
        if content is None or self._find_problem(content) is not None:
            span = position.start, position.start + position.size
            content = read_remote(url, self._find_problem, span)
            cache.put(key, content)
        return content

    def _find_problem(self, content: bytes) -> str | None:
        """Return why bytes are not those of the sample, or None."""
        name, size = self.position.name, self.position.size
        if len(content) < size:
            return f"it is cut off: of sample '{name}', it has {len(content):,} of {size:,} bytes"
        if len(content) > size:
            return f"the server does not answer byte ranges: {len(content):,} bytes, not {size:,}"
        if zlib.crc32(content) != self.position.crc32:
            return f"it has changed: the checksum of sample '{name}' is not that of {INDEX}"
        return None

    @property
    def shard(self) -> str:
        """File name of the shard."""
        return format_shard(self.split, self.position.shard)

    @property
    def size(self) -> int:
        """Number of bytes."""
        return self.position.file_sizes[self.kind]

    @property
    def name(self) -> str:
        """Name of the file from which the shard was written."""
        return self.stem + self.suffix

    @property
    def stem(self) -> str:
        """The name without its suffix."""
        return PurePosixPath(self.position.name).name

    @property
    def suffix(self) -> str:
        """Suffix of the name."""
        return self.position.suffixes[self.kind]

    @property
    def parent(self) -> str:
        """Folder or URL of the dataset."""
        return self.root

    def __str__(self) -> str:
        return f"{self.root}/{self.relative_to(self.root)}"

    def relative_to(self, root: Path | str) -> PurePosixPath:
        """Return the path in the dataset: the shard, and the name in it."""
        return PurePosixPath(self.shard, self.position.name + self.suffix)


File = Path | ShardFile
"""A file of a dataset."""


def open_source(source: File | BinaryIO) -> Path | BinaryIO:
    """Return a file in a shard as a file object, and anything else as it is.

    Raises:
        StorageError: The shard cannot be read.
    """
    return BytesIO(source.read_bytes()) if isinstance(source, ShardFile) else source


def format_shard(split: str, number: int) -> str:
    """Return the file name of a shard."""
    return f"{split}-{number:06d}.tar"
