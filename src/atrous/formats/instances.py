"""A mask per object, in one folder per image (DSB 2018), and masks that number objects."""

from collections import Counter
from functools import partial
from pathlib import Path

import numpy as np

from atrous.classes import build_classes
from atrous.data.pairs import list_image_files
from atrous.errors import DataError
from atrous.formats import folders
from atrous.formats.mask_files import FIRST_COLOR, read_values
from atrous.formats.source import BACKGROUND, Item, Source, find_split

Objects = list[tuple[Path, list[Path]]]


def find(root: Path) -> Objects | tuple[folders.Pairs, Counter[str]] | None:
    """Return the image and masks of each folder that has `images` and `masks`; else pairs."""
    found = []
    for folder in sorted(root.rglob("images")) if root.is_dir() else []:
        masks = list_image_files(folder.parent / "masks")
        images = list_image_files(folder)
        if len(images) == 1 and masks:
            found.append((images[0], masks))
    return found or folders.find(root)


def read(root: Path, found: Objects | tuple[folders.Pairs, Counter[str]]) -> Source:
    """Read the union of all objects as one class; see also `folders.read`.

    Raises:
        DataError: A mask cannot be read.
    """
    if isinstance(found, tuple):
        return folders.read(root, found, are_objects=True)
    source = Source("a mask per object", build_classes([BACKGROUND, "object"]), [])
    source.notes.append("All objects are one class, which --class NAME names.")
    num_images = len(list(root.rglob("images")))
    source.skipped["images without a mask"] = num_images - len(found)
    for image, masks in found:
        split = find_split(image.relative_to(root).parts[:-1])
        source.items.append(Item(image, split, partial(_unite, masks), tuple(masks)))
    return source


def _unite(masks: list[Path], skipped: Counter[str]) -> np.ndarray:
    union = None
    for path in masks:
        values = read_values(path, in_colors=False)
        region = values % FIRST_COLOR > 0
        if union is not None and region.shape != union.shape:
            raise DataError(
                f"The masks {masks[0]} and {path} of one image have different sizes: "
                f"{union.shape[1]} × {union.shape[0]} and {region.shape[1]} × {region.shape[0]}."
            )
        union = region if union is None else union | region
    assert union is not None
    return union.astype(np.uint8)
