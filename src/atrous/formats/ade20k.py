"""ADE20K of the scene parsing challenge: `images/training` and `annotations/training`."""

from collections import Counter
from functools import partial
from pathlib import Path

import numpy as np

from atrous.classes import IGNORE_INDEX, build_classes
from atrous.data.pairs import list_image_files
from atrous.errors import DataError
from atrous.formats.source import Item, Source, find_split
from atrous.images.reading import read_indices

_NUM_CLASSES = 150


def find(root: Path) -> list[Path]:
    """Return the masks of both splits."""
    return sorted(root.glob("annotations/*/ADE_*.png"))


def read(root: Path, masks: list[Path]) -> Source:
    """Read pairs; 0 is ignored, 1 to 150 become 0 to 149.

    The names are those of `objectInfo150.txt`, the first of each line, or else numbers.

    Raises:
        DataError: The table does not have 150 lines.
    """
    source = Source("ADE20K", build_classes(_read_names(root)), [])
    for mask in masks:
        split = mask.parent.name
        image = root / "images" / split / f"{mask.stem}.jpg"
        if image.is_file():
            load = partial(_translate, mask)
            source.items.append(Item(image, find_split([split]), load, (mask,)))
        else:
            source.skipped["masks without an image"] += 1
    num_images = sum(len(list_image_files(folder)) for folder in root.glob("images/*"))
    source.skipped["images without a mask"] = num_images - len(source.items)
    return source


def _read_names(root: Path) -> list[str]:
    path = root / "objectInfo150.txt"
    if not path.is_file():
        return [str(index + 1) for index in range(_NUM_CLASSES)]
    lines = path.read_text(encoding="utf-8").splitlines()[1:]
    names = [line.split("\t")[-1].split(",")[0].strip() for line in lines if line.strip()]
    if len(names) != _NUM_CLASSES:
        raise DataError(f"{path} names {len(names)} classes, not {_NUM_CLASSES}.")
    # Two classes have the same first name.
    return [name if names.index(name) == i else f"{name} {i + 1}" for i, name in enumerate(names)]


def _translate(path: Path, skipped: Counter[str]) -> np.ndarray:
    indices = read_indices(path).astype(np.int64)
    if indices.max() > _NUM_CLASSES:
        raise DataError(f"The mask {path} has values above {_NUM_CLASSES}.")
    return np.where(indices == 0, IGNORE_INDEX, indices - 1).astype(np.uint8)
