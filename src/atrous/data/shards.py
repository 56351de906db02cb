"""Datasets in tar shards, whose samples are read by position, also over a network.

<root>/train-000000.tar    NAME.jpg and NAME.mask.png of each sample, named as in WebDataset
<root>/shards.json         classes, and the position of each sample; written last
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, Field, ValidationError

from atrous.bands import Ranges
from atrous.classes import Classes
from atrous.data.classes_file import parse_bands, parse_classes
from atrous.data.split_files import SplitFiles
from atrous.errors import StorageError
from atrous.images.remote import is_url, read_remote
from atrous.images.shard_file import INDEX, Position, ShardFile
from atrous.parsing import explain_validation, parse_json

UNFINISHED = "shards.unfinished"

_Split = Annotated[str, Field(pattern=r"^[^/\x00]+$")]


class Index(BaseModel):
    """Content of `shards.json`; `classes` is the text of a `classes.toml`."""

    format: Literal["atrous shards"] = "atrous shards"
    version: Literal[1] = 1
    classes: str
    splits: dict[_Split, Annotated[list[Position], Field(min_length=1)]]


@dataclass(frozen=True)
class Shards:
    """A dataset in shards."""

    root: str  # folder or URL
    classes: Classes
    ignore_index: int  # mask value of ignored pixels
    bands: tuple[int | None, Ranges | None]  # see `parse_bands`
    splits: dict[str, list[Position]]  # positions of the samples

    def find_files(self, split: str) -> SplitFiles:
        """Return the files of a split, which are complete."""
        positions = {position.name: position for position in self.splits[split]}
        images = {name: ShardFile(self.root, split, p, 0) for name, p in positions.items()}
        masks = {name: ShardFile(self.root, split, p, 1) for name, p in positions.items()}
        return SplitFiles(list(positions), images, masks, Path(self.root), Path(self.root))


def has_shards(root: Path | str) -> bool:
    """Return whether a dataset is in shards, as all remote ones are."""
    return is_url(root) or Path(root, INDEX).is_file()


def open_shards(root: Path | str) -> Shards:
    """Read the index of a dataset in shards.

    Raises:
        StorageError: The index is missing, unreadable, damaged or of another version.
        ConfigError: A package for this kind of URL is missing.
    """
    root = str(root).rstrip("/") or "/"
    path = f"{root}/{INDEX}"
    try:
        content = read_remote(path, _find_cut) if is_url(root) else Path(path).read_bytes()
        index = Index.model_validate(parse_json(content))
    except (OSError, ValueError) as error:
        reason = explain_validation(error) if isinstance(error, ValidationError) else error
        raise StorageError(
            f"Cannot read {path}: {reason}. It is damaged, or was written by another version of "
            "atrous: copy it again, or write the shards again with `atrous data shard`."
        ) from None
    classes, ignore_index = parse_classes(index.classes, path)
    return Shards(root, classes, ignore_index, parse_bands(index.classes, path), index.splits)


def _find_cut(content: bytes) -> str | None:
    return None if content.rstrip().endswith(b"}") else "it is cut off, or is no index"
