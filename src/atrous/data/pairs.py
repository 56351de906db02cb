"""The layout of paired folders: an image and its mask share a file stem, however it is encoded.

<root>/train/images/0001.jpg    jpg, jpeg, png, webp, tif, tiff or bmp
<root>/train/masks/0001.png     one class index per pixel
<root>/classes.toml             optional: names, colors, ignore_index
"""

from collections import Counter
from pathlib import Path

from atrous.data.sample import shorten
from atrous.data.split_files import SplitFiles, normalize_name
from atrous.errors import DataError

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".bmp")
_CLUTTER = ("", ".db", ".ini")


def list_image_files(folder: Path) -> list[Path]:
    """Return the images in a folder by their suffix, sorted, hidden files left out."""
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
    """Find the images and masks of a split, whether each has a partner or not."""
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
    """Return stem → (image, mask), sorted by stem.

    Raises:
        DataError: An image has no mask, a mask no image, or two files share one stem.
    """
    files = find_pairs_files(root, split)
    if files.same_stem:
        first, second = files.same_stem[0]
        raise DataError(
            f"Two files of one stem in {first.parent}: {first.name} and {second.name}. An image "
            "and its mask are matched by stem, so rename or remove one of them."
        )
    for what, partner, alone, folder in (
        ("image", "mask", files.without_mask, files.mask_folder),
        ("mask", "image", files.without_image, files.image_folder),
    ):
        if alone:
            raise DataError(
                f"{len(alone)} {what}s of split '{split}' have no {partner} of the same stem in "
                f"{folder}: {shorten(alone)}. Add the {partner}s or remove the {what}s. "
                f"`atrous check {root}` shows which may belong together."
                f"{describe_overlooked(folder)}"
            )
    return files.pairs


def describe_overlooked(*folders: Path) -> str:
    """Say which files and sub-folders of some folders are not read, '' where there are none."""
    parts = []
    for folder in folders:
        others = [path for path in sorted(folder.glob("*")) if not path.name.startswith(".")]
        suffixes = Counter(path.suffix.lower() for path in others if path.is_file())
        for suffix in suffixes.keys() - {*IMAGE_SUFFIXES, *_CLUTTER}:
            parts.append(
                f" {folder} holds {suffixes[suffix]} {suffix} files, which are not read: convert "
                "them to PNG."
            )
        if inside := [path.name for path in others if path.is_dir()]:
            parts.append(
                f" {folder} holds the sub-folders {shorten(inside)}, which are not searched: move "
                f"their files into {folder} itself."
            )
    return "".join(parts)


def _index_by_stem(folder: Path) -> tuple[dict[str, Path], list[tuple[Path, Path]]]:
    files: dict[str, Path] = {}
    same_stem = []
    for path in list_image_files(folder):
        first = files.setdefault(normalize_name(path.stem), path)
        if first is not path:
            same_stem.append((first, path))
    return files, same_stem
