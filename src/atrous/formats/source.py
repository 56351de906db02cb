"""What every format returns: the classes, the images, and how the mask of each is made."""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TypeVar

import numpy as np

from atrous.classes import IGNORE_INDEX, Classes, build_classes
from atrous.data.pairs import IMAGE_SUFFIXES
from atrous.errors import DataError
from atrous.parsing import escape_controls
from atrous.timing import count_cores

BACKGROUND = "background"
SPLITS = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "dev": "val",
    "test": "test",
    "testing": "test",
}
"""The split that each known name stands for."""

SUFFIXES = (*IMAGE_SUFFIXES, ".gif")
"""Suffixes of images that can be imported."""

_T = TypeVar("_T")
_R = TypeVar("_R")


@dataclass(frozen=True)
class Item:
    """An image of a foreign dataset."""

    image: Path
    split: str | None  # a name of `SPLITS`, as the source spells it
    load_mask: Callable[[Counter[str]], np.ndarray]  # uint8 (H, W); counts what was left out
    labels: tuple[Path, ...]  # files that the mask comes from
    more_bands: tuple[Path, ...] = ()  # files of the same size with the other bands of the image


@dataclass
class Source:
    """A dataset in a foreign format; for `skipped` and `notes`, see `ImportReport`."""

    format: str
    classes: Classes
    items: list[Item]
    skipped: Counter[str] = field(default_factory=Counter)
    notes: list[str] = field(default_factory=list)


def find_split(parts: Sequence[str]) -> str | None:
    """Return the split that a folder or file name states, such as `train2017` or `images_valid`."""
    for part in parts:
        words = re.findall(r"[A-Z]?[a-z]+|[A-Z]+", part)
        found = {word.lower() for word in words} & SPLITS.keys()
        if len(found) == 1 and (len(words) == 1 or "dev" not in found):
            return found.pop()
    return None


class SplitLists:
    """Splits of images by lists of their names or paths, such as `train.txt`."""

    def __init__(self) -> None:
        self._splits: dict[tuple[str, ...], str] = {}

    def add(self, split: str, names: Iterable[str]) -> None:
        """Add names or paths of images, with or without suffix; a mask may follow on the line."""
        for line in names:
            for name in {line.strip(), *line.split()[:1]}:
                path = PurePosixPath(name.replace("\\", "/"))
                parts = (path.with_suffix("") if path.suffix.lower() in SUFFIXES else path).parts
                for end in (parts[-length:] for length in range(1, min(len(parts), 4) + 1)):
                    known = self._splits.setdefault(end, split)
                    self._splits[end] = split if known == split else ""

    def find(self, image: Path) -> str | None:
        """Return the split of an image, by the longest end of its path that is in a list.

        None if it is in no list, and "" if it is in lists of several splits.
        """
        parts = image.with_suffix("").parts
        ends = (parts[-length:] for length in range(4, 0, -1))
        return next((self._splits[end] for end in ends if end in self._splits), None)

    def describe(self, images: Iterable[Path]) -> list[str]:
        """Return what a person should know of the lists, as sentences."""
        found = [self.find(image) for image in images] if self._splits else []
        notes = []
        if found and not any(found):
            notes.append("The lists of splits name no image.")
        if num_several := found.count(""):
            notes.append(f"Images in lists of several splits, which do not count: {num_several}.")
        return notes


def map_on_all_cores(
    function: Callable[[_T], _R],
    values: Sequence[_T],
    progress: Callable[[int, int], None] | None = None,
) -> list[_R]:
    """Return the result for each value; the first error cancels the rest."""
    results = []
    with ThreadPoolExecutor(count_cores()) as pool:
        try:
            for done, result in enumerate(pool.map(function, values), start=1):
                results.append(result)
                if progress is not None:
                    progress(done, len(values))
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return results


def name_classes(
    names: Iterable[str], path: Path, *, has_background: bool = True
) -> tuple[Classes, dict[str, int]]:
    """Build classes, by default with `background` as class 0, and the index of each name.

    Control characters in names are escaped.

    Raises:
        DataError: There are no classes, or more than a mask can hold.
    """
    clean = {name: " ".join(escape_controls(name).split()) or "unnamed" for name in names}
    if has_background:
        backgrounds = {name: BACKGROUND for name in clean if name.lower() == BACKGROUND}
        clean = {BACKGROUND: BACKGROUND} | clean | backgrounds
    ordered = list(dict.fromkeys(clean.values()))
    if not 1 <= len(ordered) <= IGNORE_INDEX:
        raise DataError(f"{path} has {len(ordered)} classes. A mask holds 1 to {IGNORE_INDEX}.")
    return build_classes(ordered), {name: ordered.index(one) for name, one in clean.items()}
