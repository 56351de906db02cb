"""Cityscapes: `leftImg8bit/SPLIT/CITY` and `gtFine/SPLIT/CITY`, with the 19 classes of training."""

from collections import Counter
from functools import partial
from pathlib import Path

import numpy as np

from atrous.classes import IGNORE_INDEX, build_classes
from atrous.data.sample import read_indices
from atrous.errors import DataError
from atrous.formats.source import Item, Source, find_split

# Class, id in the `labelIds` masks, colour: https://github.com/mcordts/cityscapesScripts.
_CLASSES = (
    ("road", 7, (128, 64, 128)), ("sidewalk", 8, (244, 35, 232)), ("building", 11, (70, 70, 70)),
    ("wall", 12, (102, 102, 156)), ("fence", 13, (190, 153, 153)), ("pole", 17, (153, 153, 153)),
    ("traffic light", 19, (250, 170, 30)), ("traffic sign", 20, (220, 220, 0)),
    ("vegetation", 21, (107, 142, 35)), ("terrain", 22, (152, 251, 152)),
    ("sky", 23, (70, 130, 180)), ("person", 24, (220, 20, 60)), ("rider", 25, (255, 0, 0)),
    ("car", 26, (0, 0, 142)), ("truck", 27, (0, 0, 70)), ("bus", 28, (0, 60, 100)),
    ("train", 31, (0, 80, 100)), ("motorcycle", 32, (0, 0, 230)), ("bicycle", 33, (119, 11, 32)),
)  # fmt: skip
_MAX_ID = 33
_IMAGE, _MASK = "_leftImg8bit.png", "_labelIds.png"


def find(root: Path) -> list[Path]:
    """Return the images of a folder that holds `leftImg8bit`."""
    return sorted(root.glob(f"leftImg8bit/*/*/*{_IMAGE}"))


def read(root: Path, images: list[Path]) -> Source:
    """Read the images that have `labelIds` masks; other ids than the 19 classes are ignored."""
    classes = build_classes([name for name, _, _ in _CLASSES], [color for _, _, color in _CLASSES])
    source = Source("Cityscapes", classes, [])
    for image in images:
        split, city = image.parts[-3:-1]
        stem = image.name.removesuffix(_IMAGE)
        masks = [
            root / kind / split / city / f"{stem}_{kind}{_MASK}" for kind in ("gtFine", "gtCoarse")
        ]
        mask = next((path for path in masks if path.is_file()), None)
        if mask is None:
            source.skipped["images without a labelIds mask"] += 1
        else:
            load = partial(_translate, mask)
            source.items.append(Item(image, find_split([split]), load, (mask,)))
    return source


def _translate(path: Path, skipped: Counter[str]) -> np.ndarray:
    indices = read_indices(path).astype(np.int64)
    if indices.max() > _MAX_ID:
        raise DataError(f"The mask {path} has ids above {_MAX_ID}: it holds no labelIds.")
    table = np.full(_MAX_ID + 2, IGNORE_INDEX, np.uint8)  # the last one is -1, the licence plate
    for index, (_, number, _) in enumerate(_CLASSES):
        table[number] = index
    return table[indices]
