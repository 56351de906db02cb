"""Cityscapes: `leftImg8bit/SPLIT/CITY` and `gtFine/SPLIT/CITY`, with the 19 classes of training."""

from collections import Counter
from functools import partial
from pathlib import Path

import numpy as np

from atrous.data.mask_values import renumber
from atrous.data.palettes import CITYSCAPES, CITYSCAPES_IDS, MAX_CITYSCAPES_ID
from atrous.errors import DataError
from atrous.formats.source import Item, Source, find_split
from atrous.images.reading import read_indices

_IMAGE, _MASK = "_leftImg8bit.png", "_labelIds.png"


def find(root: Path) -> list[Path]:
    """Return the images of a folder that holds `leftImg8bit`."""
    return sorted(root.glob(f"leftImg8bit/*/*/*{_IMAGE}"))


def read(root: Path, images: list[Path]) -> Source:
    """Read the images that have `labelIds` masks; other ids than the 19 classes are ignored."""
    source = Source("Cityscapes", CITYSCAPES, [])
    for image in images:
        split, city = image.parts[-3:-1]
        stem = image.name.removesuffix(_IMAGE)
        for kind in ("gtFine", "gtCoarse"):
            mask = root / kind / split / city / f"{stem}_{kind}{_MASK}"
            if mask.is_file():
                load = partial(_translate, mask)
                source.items.append(Item(image, find_split([split]), load, (mask,)))
                break
        else:
            source.skipped["images without a labelIds mask"] += 1
    return source


def _translate(path: Path, skipped: Counter[str]) -> np.ndarray:
    indices = read_indices(path)
    if indices.max() > MAX_CITYSCAPES_ID:
        raise DataError(f"The mask {path} has ids above {MAX_CITYSCAPES_ID}: it holds no labelIds.")
    return renumber(indices, CITYSCAPES_IDS)
