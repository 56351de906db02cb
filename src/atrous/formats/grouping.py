"""Groups of related images, which one split must hold together."""

import re
from collections import defaultdict
from collections.abc import Callable, Hashable, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np

from atrous.errors import ConfigError, shorten
from atrous.formats.source import map_on_all_cores
from atrous.images.arrays import open_array
from atrous.images.image_file import decode_image
from atrous.images.image_hash import (
    Print,
    are_successive_alike,
    compute_hash,
    find_near_pairs,
    group_pairs,
    split_number,
)
from atrous.images.reading import render_preview

Pairs = list[tuple[int, int]]

_HASH_PX = 64
_MIN_DEVIATION = 1.0
_MIN_SERIES = 5
_COPY = re.compile(r"(.*?)(?:_(?:jpe?g|png|bmp|tiff?|webp))?\.rf\.", re.IGNORECASE)


def group_images(
    images: Sequence[Path],
    root: Path,
    pattern: str | None,
    num_drawn: int,
    progress: Callable[[int, int], None] | None,
) -> tuple[list[list[int]], list[str]]:
    """Return groups of related images, and sentences on what relates them.

    Related are copies of one image, near-duplicates, and the images in which `pattern` finds the
    same text; without a pattern, those of a numbered series, if successive ones look alike. Near-
    duplicates and series are left apart if that leaves fewer than `num_drawn` images outside the
    largest group.

    Raises:
        ConfigError: The expression is invalid, or matches no image.
        DataError: An image cannot be read.
    """
    keys = None if pattern is None else _match(pattern, images, root)
    copies = [match[1] if (match := _COPY.match(image.name)) else None for image in images]
    pairs = _pair_equal([key and (i.parent, key) for key, i in zip(copies, images, strict=True)])
    notes = ["Copies of one image (same name before .rf.) are kept together."] if pairs else []
    prints = enumerate(map_on_all_cores(_compute_print, images, progress))
    known = {index: one for index, one in prints if one}
    alike = find_near_pairs(known)
    max_size = len(images) - num_drawn
    if _find_largest(pairs + alike) > max_size:
        notes.append("Too many images look alike to keep similar ones together.")
    elif alike:
        count = len({index for pair in alike for index in pair})
        notes.append(f"{count} images that look nearly like others are kept together with them.")
        pairs += alike
    if keys is not None:
        notes.append(f"--group keeps the images of {len({*keys} - {None})} groups together.")
        return _partition(pairs + _pair_equal(keys), len(images)), notes
    series, successive = _find_series(images, copies)
    names = sorted({key[1] or key[0].name for key in series if key})
    if len(names) > 1 and successive:
        text = f"{len(names)} numbered series of names ({shorten(names, 4)}) are"
        if not are_successive_alike(successive, known):
            notes.append(f"{text} divided: successive images look no more alike than others.")
        elif len(names) < _MIN_SERIES or _find_largest(pairs + successive) > max_size:
            notes.append(f"{text} too few or too large to be kept together.")
        else:
            notes.append(f"{text} kept together.")
            pairs += successive
    return _partition(pairs, len(images)), notes


def _find_series(
    images: Sequence[Path], copies: Sequence[str | None]
) -> tuple[list[tuple[Path, str] | None], Pairs]:
    """Return the folder and series of each image, and pairs of successive images of one."""
    stems = [copy or image.stem for copy, image in zip(copies, images, strict=True)]
    found = [split_number(re.sub(r"\D+$", "", stem)) for stem in stems]
    series = [one and (image.parent, one[0]) for one, image in zip(found, images, strict=True)]
    order = sorted(range(len(images)), key=lambda index: (found[index] or ("", 0))[1])
    return series, _pair_equal(series, order)


def _compute_print(path: Path) -> Print | None:
    """Return the hash and the thumbnail of an image; None if it is constant."""
    if opened := open_array(path, str(path)):
        image = render_preview(opened.read())
    else:
        image = decode_image(path, draft=("L", _HASH_PX)).image
    grey = image.convert("L")
    return None if np.asarray(grey).std() < _MIN_DEVIATION else compute_hash(grey)


def _match(pattern: str, images: Sequence[Path], root: Path) -> list[str | None]:
    """Return what an expression finds in each name; in the path below `root` if it has a slash."""
    try:
        expression = re.compile(pattern)
    except re.error as error:
        raise ConfigError(f"--group '{pattern}' is no regular expression: {error}.") from None
    names = [
        path.relative_to(root).as_posix()
        if "/" in pattern and path.is_relative_to(root)
        else path.name
        for path in images
    ]
    found = [expression.search(name) for name in names]
    if not any(found):
        raise ConfigError(
            f"--group '{pattern}' matches no image; the names are like {shorten(names, 3)}. An "
            "expression with a slash is matched with the path."
        )
    return [(match[1] if match.lastindex else match[0]) if match else None for match in found]


def _pair_equal(keys: Sequence[Hashable | None], order: Sequence[int] | None = None) -> Pairs:
    """Return pairs of successive indices with the same key."""
    members = defaultdict(list)
    for index in order or range(len(keys)):
        if keys[index] is not None:
            members[keys[index]].append(index)
    return [pair for group in members.values() for pair in pairwise(group)]


def _partition(pairs: Pairs, count: int) -> list[list[int]]:
    """Return all indices in the groups that the pairs connect."""
    groups = group_pairs(pairs)
    paired = {index for group in groups for index in group}
    return sorted([*groups, *([index] for index in range(count) if index not in paired)])


def _find_largest(pairs: Pairs) -> int:
    return len(group_pairs(pairs)[0]) if pairs else 0
