"""Reading of label files, and of the images that they name; nothing in them is trusted."""

from collections import Counter, defaultdict
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from atrous.data.split_files import normalize_name
from atrous.errors import DataError
from atrous.formats.source import SUFFIXES, find_split
from atrous.parsing import parse_json


def has_word(path: Path, *words: str) -> bool:
    """Return whether a file contains one of the words, without reading it as a whole."""
    if not path.is_file() or not path.stat().st_size:
        return False
    with open(path, "rb") as file, mmap(file.fileno(), 0, access=ACCESS_READ) as content:
        return any(content.find(word.encode()) >= 0 for word in words)


def read_json(path: Path) -> Any:
    """Parse a JSON file.

    Raises:
        DataError: The file cannot be read, or is not JSON.
    """
    try:
        return parse_json(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read as JSON: {error}.") from None


class Entry(BaseModel):
    """An entry of a label file, whose other keys are ignored."""

    model_config = ConfigDict(coerce_numbers_to_str=True)

    @classmethod
    def parse(cls, value: Any) -> Self | None:
        """Return the entry; None if a key is missing or has a value of another type."""
        try:
            return cls.model_validate(value)
        except ValidationError:
            return None

    @classmethod
    def parse_list(cls, values: Any, skipped: Counter[str], reason: str) -> list[Self]:
        """Return the valid entries of a list, and count the others."""
        entries = [cls.parse(value) for value in values] if isinstance(values, list) else [None]
        skipped[reason] += entries.count(None)
        return [entry for entry in entries if entry is not None]


class ImageFiles:
    """The images below a folder, or below that of a label file. No other file is ever returned."""

    def __init__(self, root: Path) -> None:
        self.folder = root if root.is_dir() else root.parent
        self._by_name: defaultdict[str, list[Path]] = defaultdict(list)
        self._by_stem: defaultdict[str, list[Path]] = defaultdict(list)
        for path in sorted(self.folder.rglob("*")):
            if path.suffix.lower() in SUFFIXES and path.is_file():
                self._by_name[_join_words(path.name)].append(path)
                self._by_stem[_join_words(path.stem)].append(path)

    def __len__(self) -> int:
        return sum(map(len, self._by_name.values()))

    def find_split(self, path: Path) -> str | None:
        """Return the split that the folders of a file state."""
        return find_split(path.relative_to(self.folder).parts[:-1])

    def find(self, stated: str, *hints: str, other_than: Path | None = None) -> Path | None:
        """Return the image that a label file means; None if there is none, or no single one.

        `stated` is its path in any form, or its stem; only the name must match. Of several files,
        the one with most of the stated folders and hints in its path is returned, and of those the
        one with the shortest path.
        """
        *folders, name = stated.replace("\\", "/").split("/")
        name = _join_words(name)
        wanted = {*folders, *hints} - {""}
        ranked: defaultdict[tuple[int, int], list[Path]] = defaultdict(list)
        for path in self._by_name.get(name) or self._by_stem.get(name, []):
            if path != other_than:
                ranked[-len(wanted.intersection(path.parts)), len(path.parts)].append(path)
        best = ranked[min(ranked)] if ranked else []
        return best[0] if len(best) == 1 else None


def _join_words(name: str) -> str:
    """Return a name as tools write it that allow no spaces, in Unicode form NFC."""
    return normalize_name(name.replace(" ", "_"))
