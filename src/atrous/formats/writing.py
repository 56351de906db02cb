"""Writing of paired folders: masks of class indices, and links to the images."""

import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image

from atrous.classes import Classes
from atrous.data.pairs import IMAGE_SUFFIXES
from atrous.errors import DataError
from atrous.formats.bands import write_bands
from atrous.formats.source import Item, map_on_all_cores
from atrous.images.image_file import read_upright_hw
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


@contextmanager
def replace_folder(out: Path) -> Iterator[Path]:
    """Provide a folder that becomes `out`, missing or empty, at the end of the block.

    If the block raises, nothing of it remains.

    Raises:
        DataError: The folder cannot be written.
    """
    partial = out.resolve().with_name(f".{out.resolve().name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir(parents=True)
        yield partial
        if out.exists():
            out.rmdir()
        partial.rename(out)
    except OSError as error:
        raise DataError(
            f"{out} cannot be written: {error}. Give another folder, or free space."
        ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def write_pairs(
    folder: Path,
    items: Sequence[Item],
    names: Sequence[str],
    classes: Classes,
    table: np.ndarray,
    copy: bool,
    progress: Callable[[int, int], None] | None,
) -> Counter[str]:
    """Write the masks and link or copy the images.

    Args:
        folder: Folder to create.
        items: The images.
        names: `SPLIT/STEM` of each.
        classes: Classes whose colours the masks show.
        table: New value of each of the 256 values of a mask.
        copy: Copy images instead of linking to them.
        progress: Called after each image with the numbers of images done and in total.

    Returns:
        Reasons why parts were left out, with their numbers.

    Raises:
        DataError: A mask has another size than its image, or a file cannot be read.
    """
    for split in {name.partition("/")[0] for name in names}:
        (folder / split / "images").mkdir(parents=True)
        (folder / split / "masks").mkdir()

    palette = classes.palette

    def write(job: tuple[Item, str]) -> Counter[str]:
        item, skipped = job[0], Counter[str]()
        split, _, stem = job[1].partition("/")
        mask = Image.fromarray(table[_turn(item.image, item.load_mask(skipped))])
        mask.putpalette(palette)
        mask.save(folder / split / "masks" / f"{stem}.png")
        place = folder / split / "images" / stem
        if item.more_bands:
            write_bands((item.image, *item.more_bands), place.with_name(f"{stem}.tif"))
        else:
            _put_image(item.image, place, copy)
        return skipped

    jobs = list(zip(items, names, strict=True))
    return sum(map_on_all_cores(write, jobs, progress), Counter())


def _turn(path: Path, mask: np.ndarray) -> np.ndarray:
    """Return a mask of the size of the upright image, turned if it was made for the stored one.

    Raises:
        DataError: It has neither size.
    """
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
