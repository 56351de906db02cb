"""Folders of images and masks in any spelling: `images` and `labels`, `X.jpg` and `X_mask.png`."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np

from atrous.data.mask_values import renumber
from atrous.data.pairs import IMAGE_WORDS, MASK_WORDS, match_by_words
from atrous.formats.mask_files import ARRAY_SUFFIXES, read_values
from atrous.formats.mask_meanings import Meaning, find_meaning
from atrous.formats.source import SUFFIXES, Item, Source, SplitLists, find_split

_IMAGE_PART, _MASK_PART = (
    re.compile(rf"(?i)(?:^|[-_ ]|(?<=[a-z0-9]))(?:{words})$|^(?:{words})[-_ ]")
    for words in (IMAGE_WORDS, MASK_WORDS)
)
_MASK_STEM = re.compile(rf"(?i)(?:^|[-_ .])(?:{MASK_WORDS}|l)$|^(?:{MASK_WORDS})[-_ .]")
_OTHER_PART = re.compile(  # of VOC, LabelMe and macOS
    r"segmentationobject.*|segmentationclass(?:npy|png)|.*visuali[sz]ations?|__macosx|\..*"
)
_LOSSY = (".jpg", ".jpeg", ".webp")

Pairs = list[tuple[Path, Path]]


def find(root: Path) -> tuple[Pairs, Counter[str]] | None:
    """Return the pairs of image and mask below a folder, and the numbers of other files.

    A folder or file name says what is a mask. A mask belongs to the image of the same stem in the
    folder of the same name, without the words that say so; else to that of the same stem anywhere
    in its split.
    """
    by_folder: defaultdict[tuple[str, ...], tuple[list[Path], list[Path]]]
    by_folder = defaultdict(lambda: ([], []))
    for path, is_mask, folder in _list_files(root) if root.is_dir() else []:
        by_folder[folder][is_mask].append(path)
    pairs, left = [], defaultdict[str | None, tuple[list[Path], list[Path]]](lambda: ([], []))
    for folder, sides in by_folder.items():
        found = _match(*sides)
        paired = {path for pair in found for path in pair}
        pairs += found
        for rest, files in zip(left[find_split(folder)], sides, strict=True):
            rest.extend(path for path in files if path not in paired)
    others = [_match(images, masks) for images, masks in left.values()]
    pairs += [pair for found in others for pair in found]
    num_matched = sum(map(len, others))
    counts = [sum(len(files[side]) for files in left.values()) - num_matched for side in (0, 1)]
    reasons = ("images without a mask", "masks without an image")
    return (sorted(pairs), Counter(dict(zip(reasons, counts, strict=True)))) if pairs else None


def _list_files(root: Path) -> Iterator[tuple[Path, bool, tuple[str, ...]]]:
    """Yield each file, whether it is a mask, and its folders without the words that say so."""
    for path in sorted(root.rglob("*")):
        relative, suffix = path.relative_to(root), path.suffix.lower()
        is_other = any(_OTHER_PART.fullmatch(part.lower()) for part in relative.parts)
        if is_other or suffix not in (*SUFFIXES, *ARRAY_SUFFIXES):
            continue
        is_mask, folders = None, []
        for part in relative.parts[:-1]:
            for pattern in (_IMAGE_PART, _MASK_PART):
                rest = pattern.sub("", part)
                if rest != part:
                    is_mask, part = pattern is _MASK_PART, rest
            folders.append(part.lower())
        if is_mask is None:
            is_mask = suffix in ARRAY_SUFFIXES or bool(_MASK_STEM.search(path.stem))
        if is_mask or suffix in SUFFIXES:
            yield path, is_mask, tuple(filter(None, folders))


def _match(images: list[Path], masks: list[Path]) -> Pairs:
    """Return the pairs of equal stems, then those of stems equal without words."""
    if not masks:  # a.jpg beside a.png
        masks = [path for path in images if path.suffix.lower() not in _LOSSY]
        images = [path for path in images if path.suffix.lower() in _LOSSY]
    by_stem = {path.stem: path for path in reversed(masks)}
    pairs = {path.stem: (path, by_stem[path.stem]) for path in images if path.stem in by_stem}
    paired = {path for pair in pairs.values() for path in pair}
    rest = ([path for path in files if path not in paired] for files in (images, masks))
    return [*pairs.values(), *match_by_words(*rest)]


def read(
    root: Path, found: tuple[Pairs, Counter[str]], *, are_objects: bool | None = None
) -> Source:
    """Read pairs of image and mask; see `find_meaning` for the values of the masks.

    Raises:
        DataError: A mask cannot be read, or its values have no meaning.
    """
    pairs, skipped = found
    meaning = find_meaning(root, [mask for _, mask in pairs], are_objects)
    listed = _read_lists(root)
    notes = [*meaning.notes, *listed.describe(image for image, _ in pairs)]
    source = Source("folders of images and masks", meaning.classes, [], skipped, notes)
    for image, mask in pairs:
        parts = image.relative_to(root).parts[:-1]
        split = find_split(parts) or find_split([_IMAGE_PART.sub("", part) for part in parts])
        load = partial(_translate, mask, meaning)
        source.items.append(Item(image, split or listed.find(image) or None, load, (mask,)))
    return source


def _read_lists(root: Path) -> SplitLists:
    """Read lists such as `ImageSets/…/train.txt`."""
    lists = SplitLists()
    for path in root.rglob("*.txt"):
        if split := find_split([path.stem]):
            lists.add(split, path.read_text(encoding="utf-8-sig", errors="replace").splitlines())
    return lists


def _translate(path: Path, meaning: Meaning, skipped: Counter[str]) -> np.ndarray:
    return renumber(read_values(path, in_colors=meaning.in_colors), meaning.indices)
