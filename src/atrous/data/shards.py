"""Datasets in tar shards, whose samples are read by position, also over a network.

<root>/train-000000.tar    NAME.jpg and NAME.mask.png of each sample, named as in WebDataset
<root>/shards.json         classes, and the position of each sample; written last
"""

import hashlib
import threading
import zlib
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path, PurePosixPath
from typing import Annotated, BinaryIO, Literal, NamedTuple

from pydantic import BaseModel, Field, ValidationError

from atrous.bands import Ranges
from atrous.classes import Classes
from atrous.data.classes_file import parse_bands, parse_classes
from atrous.data.remote import is_url, open_cache, read_remote
from atrous.data.split_files import SplitFiles
from atrous.errors import StorageError
from atrous.parsing import explain_validation, parse_json

INDEX, UNFINISHED = "shards.json", "shards.unfinished"

_last = threading.local()
_Size = Annotated[int, Field(ge=0)]


class Position(NamedTuple):
    """Position of a sample: from the first byte of its image to the last of its mask.

    Attributes:
        name: Stem, unique within the split.
        suffixes: Suffixes of the image file and of the mask file.
        shard: Number of the shard.
        start: First byte in the shard.
        size: Number of bytes.
        crc32: Checksum of these bytes.
        file_sizes: Number of bytes of the image, which is first, and of the mask, which is last.
    """

    name: str
    suffixes: tuple[str, str]
    shard: _Size
    start: _Size
    size: _Size
    crc32: _Size
    file_sizes: tuple[_Size, _Size]


class Index(BaseModel):
    """Content of `shards.json`; `classes` is the text of a `classes.toml`."""

    format: Literal["atrous shards"] = "atrous shards"
    version: Literal[1] = 1
    classes: str
    splits: dict[
        Annotated[str, Field(pattern="^[^/]+$")], Annotated[list[Position], Field(min_length=1)]
    ]


@dataclass(frozen=True, slots=True)
class ShardSample:
    """Bytes of an image and its mask in a shard; see `Position`."""

    root: str
    split: str
    position: Position

    @property
    def shard(self) -> str:
        """File name of the shard."""
        return format_shard(self.split, self.position.shard)

    def read(self) -> bytes:
        """Return the bytes.

        Raises:
            StorageError: The shard is missing, unreadable, cut off or changed.
            ConfigError: A package for this kind of address is missing.
        """
        if is_url(self.root):
            return self._read_remote()
        path = Path(self.root, self.shard)
        try:
            with open(path, "rb") as file:
                file.seek(self.position.start)
                content = file.read(self.position.size)
        except OSError as error:
            problem: str | None = error.strerror or str(error)
        else:
            problem = self._find_problem(content)
        if problem is not None:
            raise StorageError(
                f"Cannot read the shard {path}: {problem}. Copy it again, or write the shards "
                "again with `atrous data shard`."
            )
        return content

    def _read_remote(self) -> bytes:
        cache = open_cache()
        url, start, end = f"{self.root}/{self.shard}", *self._span
        key = hashlib.sha256(f"{url} {start} {end} {self.position.crc32}".encode()).hexdigest()
        content = cache.get(key)
        if content is None or self._find_problem(content) is not None:
            content = read_remote(url, self._find_problem, start=start, end=end)
            cache.put(key, content)
        return content

    @property
    def _span(self) -> tuple[int, int]:
        return self.position.start, self.position.start + self.position.size

    def _find_problem(self, content: bytes) -> str | None:
        """Return why bytes are not those of this sample, or None."""
        name, (start, end) = self.position.name, self._span
        if len(content) != self.position.size:
            return (
                f"of sample '{name}', bytes {start} to {end}, {len(content)} bytes arrived instead "
                f"of {end - start}: the file or the answer is cut off, or the server does not "
                "answer ranges"
            )
        if zlib.crc32(content) != self.position.crc32:
            return f"the checksum of sample '{name}' differs from {INDEX}: the shard has changed"
        return None


@dataclass(frozen=True, slots=True)
class ShardFile:
    """An image or a mask in a shard, with the properties of a `Path` that messages need.

    Attributes:
        sample: The sample.
        kind: 0 for the image, 1 for the mask.
    """

    sample: ShardSample
    kind: Literal[0, 1]

    def read_bytes(self) -> bytes:
        """Return the content of the file.

        The last sample of each thread is kept, since an image and its mask are read in turn.

        Raises:
            StorageError: See `ShardSample.read`.
        """
        if getattr(_last, "sample", None) != self.sample:
            _last.content = self.sample.read()
            _last.sample = self.sample
        content: bytes = _last.content
        return content[: self.size] if self.kind == 0 else content[len(content) - self.size :]

    @property
    def size(self) -> int:
        """Number of bytes."""
        return self.sample.position.file_sizes[self.kind]

    @property
    def name(self) -> str:
        """Name of the file from which the shard was written."""
        position = self.sample.position
        return position.name + position.suffixes[self.kind]

    @property
    def stem(self) -> str:
        """Last part of the name, without its suffix."""
        return PurePosixPath(self.sample.position.name).name

    @property
    def suffix(self) -> str:
        """Suffix of the name."""
        return self.sample.position.suffixes[self.kind]

    @property
    def parent(self) -> str:
        """The dataset."""
        return self.sample.root

    def __str__(self) -> str:
        return f"{self.parent}/{self.relative_to()}"

    def relative_to(self, *_: object) -> PurePosixPath:
        """Return the path in the dataset: the shard, and the name of the file."""
        return PurePosixPath(self.sample.shard, self.name)


File = Path | ShardFile
"""A file of a dataset."""


@dataclass(frozen=True)
class Shards:
    """A dataset in shards.

    Attributes:
        root: Folder or URL.
        classes: Names and colours of the classes.
        ignore_index: Mask value of ignored pixels.
        bands: Number of bands and their ranges, if they are given; see `parse_bands`.
        splits: Split → positions of its samples.
    """

    root: str
    classes: Classes
    ignore_index: int
    bands: tuple[int | None, Ranges | None]
    splits: dict[str, list[Position]]

    def find_files(self, split: str) -> SplitFiles:
        """Return the files of a split, which are complete."""
        samples = {p.name: ShardSample(self.root, split, p) for p in self.splits[split]}
        images: dict[str, File] = {name: ShardFile(s, 0) for name, s in samples.items()}
        masks: dict[str, File] = {name: ShardFile(s, 1) for name, s in samples.items()}
        return SplitFiles(list(samples), images, masks, Path(self.root), Path(self.root))


def open_source(source: File | BinaryIO) -> Path | BinaryIO:
    """Return a file in a shard as a file object, and anything else as it is.

    Raises:
        StorageError: The shard cannot be read.
    """
    return BytesIO(source.read_bytes()) if isinstance(source, ShardFile) else source


def format_shard(split: str, number: int) -> str:
    """Return the file name of a shard."""
    return f"{split}-{number:06d}.tar"


def has_shards(root: Path | str) -> bool:
    """Return whether a dataset is in shards, as all remote ones are."""
    return is_url(root) or Path(root, INDEX).is_file()


def open_shards(root: Path | str) -> Shards:
    """Read the index of a dataset in shards.

    Raises:
        StorageError: The index is missing, unreadable, damaged or of another version.
        ConfigError: A package for this kind of address is missing.
    """
    root = str(root).rstrip("/") if is_url(root) else str(root)
    path = f"{root}/{INDEX}"
    content = read_remote(path, _find_end) if is_url(root) else Path(path).read_bytes()
    again = "Write the shards again with `atrous data shard`, or copy the index again."
    try:
        values = parse_json(content)
        version = values.get("version") if isinstance(values, dict) else None
        if isinstance(version, int) and version != 1:
            raise StorageError(
                f"{path} has version {version}, where 1 was expected: it was written by another "
                f"version of atrous. {again}"
            )
        index = Index.model_validate(values)
    except ValidationError as error:
        raise StorageError(f"{path} is invalid: {explain_validation(error)}. {again}") from None
    except ValueError as error:
        raise StorageError(f"{path} cannot be read as JSON: {error}. {again}") from None
    for split, positions in index.splits.items():
        if len({position.name for position in positions}) < len(positions):
            raise StorageError(f"{path} lists a name twice in split '{split}'. {again}")
    classes, ignore_index = parse_classes(index.classes, path)
    return Shards(root, classes, ignore_index, parse_bands(index.classes, path), index.splits)


def _find_end(content: bytes) -> str | None:
    return None if content.rstrip().endswith(b"}") else "the answer is cut off"
