"""The layout of paired folders: an image and its mask have the same file stem.

<root>/train/images/0001.jpg    jpg, jpeg, png, webp, tif, tiff or bmp
<root>/train/masks/0001.png     one class index per pixel
<root>/classes.toml             optional: names, colors, ignore_index
"""

from collections import Counter
from pathlib import Path

from atrous.data.sample import shorten
from atrous.data.split_files import SplitFiles, normalize_name

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".bmp")
_CLUTTER = ("", ".db", ".ini")


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


def describe_overlooked(*folders: Path) -> str:
    """Return a text on files and sub-folders that are not read; '' if there are none."""
    parts = []
    for folder in folders:
        others = [path for path in sorted(folder.glob("*")) if not path.name.startswith(".")]
        suffixes = Counter(path.suffix.lower() for path in others if path.is_file())
        for suffix in suffixes.keys() - {*IMAGE_SUFFIXES, *_CLUTTER}:
            parts.append(
                f" {folder} contains {suffixes[suffix]} {suffix} files, which are not read: "
                "convert them to PNG."
            )
        if inside := [path.name for path in others if path.is_dir()]:
            parts.append(
                f" {folder} contains the sub-folders {shorten(inside)}, which are not searched: "
                f"move their files into {folder} itself."
            )
    return "".join(parts)


def _index_by_stem(folder: Path, same_stem: list[tuple[Path, Path]]) -> dict[str, Path]:
    files: dict[str, Path] = {}
    for path in list_image_files(folder):
        first = files.setdefault(normalize_name(path.stem), path)
        if first is not path:
            same_stem.append((first, path))
    return files
