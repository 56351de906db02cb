"""The layout of paired folders: an image and its mask have the same file stem.

<root>/train/images/0001.jpg    jpg, jpeg, png, webp, tif, tiff, bmp or npy
<root>/train/masks/0001.png     one class index per pixel
<root>/classes.toml             optional: names, colors, ignore_index
"""

import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from atrous.data.split_files import SplitFiles, normalize_name
from atrous.errors import shorten

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".bmp", ".npy")
_CLUTTER = ("", ".db", ".ini")

MASK_WORDS = (
    "masks?|labels?|label_?ids|labeltrainids|label_?images?|segmentations?|segmentationclass(?:aug)?"
    "|segs?|gt|gts|gtfine|gtcoarse|ground_?truths?|annotations?|annots?|anno|targets?|manual1?"
)
IMAGE_WORDS = "images?|imgs?|jpegimages|pngimages|leftimg8bit|photos?|pictures?|rgb|inputs?|sat"
_WORD = f"(?:{MASK_WORDS}|{IMAGE_WORDS}|colou?r|l|p)"
_WORDS = re.compile(rf"^(?:{_WORD}(?:[-_. ]|$))+|(?:[-_. ]{_WORD})+$")


def list_image_files(folder: Path) -> list[Path]:
    """Return the files of a folder with the suffix of an image, sorted, without hidden files."""
    return sorted(
        path
        for path in folder.glob("*")
        if path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")
    )


def list_pairs_splits(root: Path) -> list[str]:
    """Return the names of the folders that contain `images` or `masks`, sorted."""
    return sorted(
        {path.parent.name for sub in ("images", "masks") for path in root.glob(f"*/{sub}")}
    )


def is_part(folder: Path) -> bool:
    """Return whether a folder holds the images or masks of a split."""
    other = {"images": "masks", "masks": "images"}.get(folder.name)
    return other is not None and (folder.parent / other).is_dir()


def find_pairs_files(root: Path, split: str) -> SplitFiles:
    """Return the images and masks of a split, with or without a partner, sorted by stem."""
    image_folder, mask_folder = root / split / "images", root / split / "masks"
    same_stem: list[tuple[Path, Path]] = []
    images = _index_by_stem(image_folder, same_stem)
    masks = _index_by_stem(mask_folder, same_stem)
    names = sorted(images.keys() | masks.keys())
    return SplitFiles(names, images, masks, image_folder, mask_folder, same_stem=same_stem)


def match_by_words(images: Iterable[Path], masks: Iterable[Path]) -> list[tuple[Path, Path]]:
    """Return the (image, mask) whose stems are equal without words such as `_mask` or `img_`.

    Exactly one image and one mask must have a stem; case does not matter.
    """
    by_stem: dict[str, tuple[list[Path], list[Path]]] = {}
    for side, paths in enumerate((images, masks)):
        for path in paths:
            stem = _WORDS.sub("", normalize_name(path.stem).casefold())
            by_stem.setdefault(stem, ([], []))[side].append(path)
    return [(a[0], b[0]) for a, b in by_stem.values() if len(a) == len(b) == 1]


def describe_overlooked(*folders: Path) -> str:
    """Return a text on files and sub-folders that are not read; '' if there are none."""
    text = ""
    for folder in folders:
        others = [path for path in sorted(folder.glob("*")) if not path.name.startswith(".")]
        suffixes = Counter(path.suffix.lower() for path in others if path.is_file())
        for suffix in suffixes.keys() - {*IMAGE_SUFFIXES, *_CLUTTER}:
            text += (
                f" {folder} contains {suffixes[suffix]} {suffix} files, which are not read: "
                "convert them to PNG."
            )
        if inside := [path.name for path in others if path.is_dir()]:
            text += (
                f" {folder} contains the sub-folders {shorten(inside)}, which are not searched: "
                f"move their files into {folder} itself."
            )
    return text


def _index_by_stem(folder: Path, same_stem: list[tuple[Path, Path]]) -> dict[str, Path]:
    files: dict[str, Path] = {}
    for path in list_image_files(folder):
        first = files.setdefault(normalize_name(path.stem), path)
        if first is not path:
            same_stem.append((first, path))
    return files
