"""What every format returns: the classes, the images, and how the mask of each is made."""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import numpy as np

from atrous.classes import IGNORE_INDEX, Classes, build_classes
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
