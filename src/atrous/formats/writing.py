"""Writing of paired folders: masks of class indices, and links to the images."""

import os
import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from atrous.classes import IGNORE_INDEX, Classes
from atrous.data.pairs import IMAGE_SUFFIXES
from atrous.errors import DataError
from atrous.formats.source import BACKGROUND, Item, map_on_all_cores
from atrous.images.image_file import decode_image, read_upright_hw
from atrous.images.orientation import turn_upright
from atrous.images.reading import read_image


def name_items(items: Sequence[Item], splits: Sequence[str]) -> list[str]:
    """Return `SPLIT/STEM` for each image, unique: with the names of its folders where necessary."""
    root = os.path.commonpath([item.image.parent for item in items])
    stems = Counter((item.split, item.image.stem) for item in items)
    taken: Counter[str] = Counter()
    names = []
    for item, split in zip(items, splits, strict=True):
        stem = item.image.stem
        if stems[item.split, stem] > 1:
            stem = "_".join(item.image.relative_to(root).with_suffix("").parts)
        taken[f"{split}/{stem}"] += 1
        number = taken[f"{split}/{stem}"]
        names.append(f"{split}/{stem}" if number == 1 else f"{split}/{stem}_{number}")
    return names


def write_pairs(
    folder: Path,
    items: Sequence[Item],
    names: Sequence[str],
    classes: Classes,
    table: np.ndarray,
    copy: bool,
    progress: Callable[[int, int], None] | None,
) -> tuple[Counter[str], bool]:
    """Write the masks, and link or copy the images.

    `names` are those of `name_items`; `table` has the new value of each of the 256 of a mask.

    Returns:
        What parts were left out, and why; and whether a mask has a class besides `background`.

    Raises:
        DataError: A mask has another size than its image, or a file cannot be read.
    """
    is_label = np.ones(IGNORE_INDEX + 1, bool)
    is_label[IGNORE_INDEX] = False
    if BACKGROUND in classes.names:
        is_label[classes.names.index(BACKGROUND)] = False
    for split in {name.partition("/")[0] for name in names}:
        (folder / split / "images").mkdir(parents=True)
        (folder / split / "masks").mkdir()
    palette = classes.palette

    def write(job: tuple[Item, str]) -> tuple[Counter[str], bool]:
        item, skipped = job[0], Counter[str]()
        split, _, stem = job[1].partition("/")
        values = table[_turn(item.image, item.load_mask(skipped))]
        mask = Image.fromarray(values)
        mask.putpalette(palette)
        mask.save(folder / split / "masks" / f"{stem}.png")
        place = folder / split / "images" / stem
        if item.more_bands:
            _write_bands((item.image, *item.more_bands), place.with_name(f"{stem}.tif"))
        else:
            _put_image(item.image, place, copy)
        return skipped, bool(is_label[values].any())

    jobs = list(zip(items, names, strict=True))
    counters, have_labels = zip(*map_on_all_cores(write, jobs, progress), strict=True)
    return sum(counters, Counter()), any(have_labels)


def _write_bands(files: Sequence[Path], target: Path) -> None:
    """Write images of one band as the bands of a TIFF, in their order and with their own depth."""
    import tifffile  # takes half a second

    bands = [np.asarray(decode_image(file).image) for file in files]
    for file, band in zip(files, bands, strict=True):
        if band.ndim != 2 or band.shape != bands[0].shape or band.dtype != bands[0].dtype:
            raise DataError(
                f"{file} has the shape {band.shape} and the depth {band.dtype}, but the bands of "
                f"one image must have one shape and depth; {files[0]} has {bands[0].shape} and "
                f"{bands[0].dtype}. Save each band as a grey image."
            )
    tifffile.imwrite(
        target,
        np.stack(bands),
        photometric="minisblack",
        planarconfig="separate",
        compression="zlib",
    )


def _turn(path: Path, mask: np.ndarray) -> np.ndarray:
    """Return a mask of the size of the upright image, turned if it was made for the stored one."""
    size_hw, orientation = read_upright_hw(path)
    if mask.shape == size_hw:
        return mask
    if orientation >= 5 and mask.shape == size_hw[::-1]:
        return np.asarray(turn_upright(Image.fromarray(mask), orientation))
    raise DataError(
        f"The image {path} is {size_hw[1]} × {size_hw[0]} pixels (width × height), "
        f"but its labels are for {mask.shape[1]} × {mask.shape[0]}."
    )


def _put_image(image: Path, place: Path, copy: bool) -> None:
    """Link to an image or copy it; of a suffix that datasets do not have, write a PNG."""
    suffix = image.suffix.lower()
    if suffix not in IMAGE_SUFFIXES:
        pixels = read_image(image).permute(1, 2, 0).numpy()
        Image.fromarray(pixels).save(place.with_name(f"{place.name}.png"))
        return
    target = place.with_name(place.name + suffix)
    for link in () if copy else (os.link, os.symlink):
        try:
            link(image.resolve(), target)
            return
        except OSError:  # another file system, or one without links
            pass
    shutil.copyfile(image, target)
