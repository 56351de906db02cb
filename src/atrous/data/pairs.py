"""The layout of paired folders: an image and its mask share a file stem, however it is encoded.

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
from atrous.data.split_files import SplitFiles, normalize_name
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


def is_part(folder: Path) -> bool:
    """Tell whether a folder holds the images or masks of a split."""
    other = {"images": "masks", "masks": "images"}.get(folder.name)
    return other is not None and (folder.parent / other).is_dir()


def find_pairs_files(root: Path, split: str) -> SplitFiles:
    """Find the pictures and masks of a split, whether each has a partner or not."""
    image_folder, mask_folder = root / split / "images", root / split / "masks"
    images, same_images = _index_by_stem(image_folder)
    masks, same_masks = _index_by_stem(mask_folder)
    return SplitFiles(
        names=sorted(images.keys() | masks.keys()),
        images=images,
        masks=masks,
        image_folder=image_folder,
        mask_folder=mask_folder,
        same_stem=same_images + same_masks,
    )


def list_pairs_files(root: Path, split: str) -> dict[str, tuple[Path, Path]]:
    """Return stem → (picture, mask), sorted by stem.

    Raises:
        DataError: A picture has no mask, a mask no picture, or two files share one stem.
    """
    files = find_pairs_files(root, split)
    if files.same_stem:
        first, second = files.same_stem[0]
        raise DataError(
            f"Two files of one stem in {first.parent}: {first.name} and {second.name}. A picture "
            "and its mask are matched by stem, so rename or remove one of them."
        )
    for what, partner, alone, folder in (
        ("picture", "mask", files.without_mask, files.mask_folder),
        ("mask", "picture", files.without_image, files.image_folder),
    ):
        if alone:
            raise DataError(
                f"{len(alone)} {what}s of split '{split}' have no {partner} of the same stem in "
                f"{folder}: {shorten(alone)}. Add the {partner}s or remove the {what}s. "
                f"`atrous check {root}` shows which may belong together."
            )
    return files.pairs


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
    stamps = tuple((path, path.stat().st_mtime_ns if path.exists() else 0) for path in masks)
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


def _index_by_stem(folder: Path) -> tuple[dict[str, Path], list[tuple[Path, Path]]]:
    files: dict[str, Path] = {}
    same_stem = []
    for path in list_image_files(folder):
        first = files.setdefault(normalize_name(path.stem), path)
        if first is not path:
            same_stem.append((first, path))
    return files, same_stem
