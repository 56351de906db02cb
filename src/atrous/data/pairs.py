"""The layout of paired folders: a picture and its mask share a file stem.

<root>/train/images/0001.jpg    jpg, jpeg, png, webp, tif, tiff or bmp
<root>/train/masks/0001.png     one class index per pixel
<root>/classes.toml             optional: names, colors, ignore_index
"""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path

import numpy as np

from atrous.classes import VOID, Classes, build_classes
from atrous.data.classes_file import FILENAME, read_classes_file
from atrous.data.sample import read_indices, shorten
from atrous.errors import DataError

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".bmp")


def list_image_files(folder: Path) -> list[Path]:
    """Return the pictures in a folder by their suffix, sorted, hidden files left out."""
    return sorted(
        path
        for path in folder.glob("*")
        if path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")
    )


def list_pairs_splits(root: Path) -> list[str]:
    """Return the names of the folders that hold `images` or `masks`, sorted."""
    return sorted(
        {path.parent.name for sub in ("images", "masks") for path in root.glob(f"*/{sub}")}
    )


def list_pairs_files(root: Path, split: str) -> dict[str, tuple[Path, Path]]:
    """Return stem → (picture, mask), sorted by stem.

    Raises:
        DataError: A picture has no mask, a mask no picture, or two files share one stem.
    """
    folders = (root / split / "images", root / split / "masks")
    images, masks = (_index_by_stem(folder) for folder in folders)
    for what, partner, alone, folder in (
        ("picture", "mask", sorted(images.keys() - masks.keys()), folders[1]),
        ("mask", "picture", sorted(masks.keys() - images.keys()), folders[0]),
    ):
        if alone:
            raise DataError(
                f"{len(alone)} {what}s of split '{split}' have no {partner} of the same stem in "
                f"{folder}: {shorten(alone)}. Add the {partner}s or remove the {what}s."
            )
    return {name: (images[name], masks[name]) for name in sorted(images)}


def read_pairs_classes(root: Path, ignore_index: int | None) -> tuple[Classes, int]:
    """Return classes and ignore index from `classes.toml`; else as many as the masks use.

    Without the file the classes are named by their numbers, up to the largest value in the masks
    of all splits that is neither 255 nor `ignore_index`.
    """
    if (root / FILENAME).is_file():
        return read_classes_file(root / FILENAME)
    ignore_index = VOID if ignore_index is None else ignore_index
    masks = [
        path
        for split in list_pairs_splits(root)
        for path in list_image_files(root / split / "masks")
    ]
    stamps = tuple((path, path.stat().st_mtime_ns) for path in masks)
    num_classes = _find_num_classes(stamps, ignore_index)
    return build_classes([str(index) for index in range(num_classes)]), ignore_index


@lru_cache(maxsize=8)
def _find_num_classes(stamps: Sequence[tuple[Path, int]], ignore_index: int) -> int:
    def largest_class(path: Path) -> int:
        values = np.unique(read_indices(path)).tolist()
        return max((value for value in values if value not in (ignore_index, VOID)), default=-1)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        largest = max(pool.map(largest_class, (path for path, _ in stamps)), default=-1)
    if not 0 <= largest < VOID:
        raise DataError(
            f"Cannot number the classes: the largest class index in {len(stamps)} masks, such as "
            f"{stamps[0][0]}, is {largest}, where 0 to 254 was expected. Look at the masks, or "
            f"list the classes in {FILENAME} beside them."
        )
    return largest + 1


def _index_by_stem(folder: Path) -> dict[str, Path]:
    files: dict[str, Path] = {}
    for path in list_image_files(folder):
        if other := files.get(path.stem):
            raise DataError(
                f"Two files of one stem in {folder}: {other.name} and {path.name}. A picture and "
                "its mask are matched by stem, so rename or remove one of them."
            )
        files[path.stem] = path
    return files
