"""Folders of images and masks in any spelling: `images` and `labels`, `X.jpg` and `X_mask.png`."""

import csv
import os
import re
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np

from atrous.classes import IGNORE_INDEX, Classes, build_classes, voc_color
from atrous.data.classes_file import FILENAME, read_classes_file
from atrous.data.image_file import decode_image
from atrous.data.pairs import IMAGE_SUFFIXES
from atrous.data.sample import holds_indices, read_indices, shorten
from atrous.errors import DataError
from atrous.formats.source import Item, Source, find_split

_MASK_WORDS = (
    "masks?|labels?|annotations?|annots?|segmentations?|segmentationclass|segs?|gt|gtfine|"
    "groundtruths?|labelimages"
)
_IMAGE_WORDS = "images?|imgs?|jpegimages|leftimg8bit|photos?|pictures?|rgb|inputs?"
_MASK_PART = re.compile(rf"(?i)(?:^|(?<=[a-z0-9])[-_]?|[-_])(?:{_MASK_WORDS})$")
_IMAGE_PART = re.compile(rf"(?i)(?:^|[-_])(?:{_IMAGE_WORDS})$")
_MASK_STEM = re.compile(r"(?i)[-_](?:masks?|labels?|seg|segmentation|annotation|gt|l)$")
_SUFFIXES = (*IMAGE_SUFFIXES, ".gif")
_MAX_COLORS = 64
_TABLES = ("labelmap.txt", "class_dict.csv", "_classes.csv", "classes.csv")


Files = dict[tuple[str, ...], Path]
"""Files by their path without the words that make them images or masks."""


def find(root: Path) -> tuple[Files, Files] | None:
    """Return the images and the masks below a folder; None if no two belong together."""
    images: Files = {}
    masks: Files = {}
    for path in sorted(root.rglob("*")) if root.is_dir() else []:
        if path.suffix.lower() in _SUFFIXES and not path.name.startswith("."):
            is_mask, key = _split_role(path.relative_to(root))
            (masks if is_mask else images).setdefault(key, path)
    return (images, masks) if images.keys() & masks.keys() else None


def _split_role(path: Path) -> tuple[bool, tuple[str, ...]]:
    """Return whether a path is a mask, and its parts without the words that say so."""
    is_mask, parts = False, []
    for part in path.parts[:-1]:
        rest = _IMAGE_PART.sub("", part)
        if rest == part:
            rest = _MASK_PART.sub("", part)
            is_mask |= rest != part
        if rest:
            parts.append(rest.lower())
    stem = _MASK_STEM.sub("", path.stem)
    is_mask |= stem != path.stem
    return is_mask, (*parts, stem)


def read(root: Path, files: tuple[Files, Files]) -> Source:
    """Read pairs of image and mask.

    `classes.toml` names masks of indices. Without it, they are renumbered without gaps, and masks
    of 0 and 255 have the classes background and foreground. Colours become classes by a table
    beside them (labelmap.txt, class_dict.csv, _classes.csv) or in the order of their values.

    Raises:
        DataError: A mask cannot be read, or the masks have more than 64 colours without a table.
    """
    images, masks = files
    pairs = [(images[key], masks[key]) for key in images if key in masks]
    known = _read_table(root)
    in_colors = any(value >= 1 << 24 for _, _, value in known)
    read_values = partial(_read_values, in_colors=in_colors)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        values = set().union(*pool.map(lambda pair: _list_values(pair[1], read_values), pairs))
    classes, table = _number(root, values, known)
    source = Source("folders of images and masks", classes, [])
    source.skipped["images without a mask"] = len(images.keys() - masks.keys())
    source.skipped["masks without an image"] = len(masks.keys() - images.keys())
    for image, mask in pairs:
        load = partial(_translate, mask, read_values, table)
        split = find_split(image.relative_to(root).parts[:-1]) or find_split(
            [_IMAGE_PART.sub("", part) for part in image.relative_to(root).parts[:-1]]
        )
        source.items.append(Item(image, split, load, (mask,)))
    return source


def _read_values(path: Path, *, in_colors: bool) -> np.ndarray:
    """Return one number per pixel: an index, or 2^24 + the number of a colour."""
    decoded = decode_image(path)
    image, is_gif = decoded.image, decoded.format == "GIF"  # whose writers renumber its palette
    if holds_indices(image) and not is_gif and not (in_colors and image.mode == "P"):
        return read_indices(path).astype(np.int64)
    rgb = np.array(image.convert("RGB")).astype(np.int64)
    if is_gif and not in_colors and (rgb == rgb[..., :1]).all():
        return rgb[..., 0]
    return (1 << 24) + (rgb[..., 0] << 16) + (rgb[..., 1] << 8) + rgb[..., 2]


def _list_values(path: Path, read_values: Callable[[Path], np.ndarray]) -> set[int]:
    values = np.unique(read_values(path))
    if len(values) > 4 * _MAX_COLORS:
        raise DataError(
            f"The mask {path} has {len(values)} different values. A mask has one value or colour "
            "per class: JPEG and smoothed masks cannot be imported. Export it as PNG."
        )
    return set(values.tolist())


def _number(
    root: Path, values: set[int], known: list[tuple[str, tuple[int, int, int], int]]
) -> tuple[Classes, dict[int, int]]:
    """Return the classes, and the class index of every value."""
    if (path := root / FILENAME).is_file():
        classes, ignore_index = read_classes_file(path)
        table = {index: index for index in range(len(classes))} | {ignore_index: IGNORE_INDEX}
    elif known:
        classes = build_classes([name for name, _, _ in known], [color for _, color, _ in known])
        table = {value: index for index, (_, _, value) in enumerate(known)}
    elif values <= {0, 255}:
        classes, table = build_classes(["background", "foreground"]), {0: 0, 255: 1}
    else:
        ordered = sorted(value for value in values if value != IGNORE_INDEX)
        colors = [value - (1 << 24) for value in ordered if value >= 1 << 24]
        if not ordered:
            raise DataError(f"All pixels of the masks below {root} are {IGNORE_INDEX}.")
        if len(colors) > _MAX_COLORS or len(ordered) > IGNORE_INDEX:
            raise DataError(
                f"The masks below {root} have {len(ordered)} different values. Write the table of "
                f"colours and names as class_dict.csv (name,r,g,b) into {root}."
            )
        names = [_name_value(value) for value in ordered]
        rgb = [(c >> 16, c >> 8 & 255, c & 255) for c in colors]
        classes = build_classes(names, rgb if len(rgb) == len(names) else None)
        table = {value: index for index, value in enumerate(ordered)}
    if unknown := sorted(value for value in values - table.keys() if value != IGNORE_INDEX):
        raise DataError(
            f"The masks below {root} have values that its table of classes does not name: "
            f"{shorten([_name_value(value) for value in unknown])}."
        )
    return classes, table


def _name_value(value: int) -> str:
    return str(value) if value < 1 << 24 else f"#{value - (1 << 24):06x}"


def _read_table(root: Path) -> list[tuple[str, tuple[int, int, int], int]]:
    """Return name, colour and mask value of each class in the first table of names below `root`."""
    path = next((p for name in _TABLES for p in sorted(root.rglob(name))), None)
    if path is None:
        return []
    lines = path.read_text(encoding="utf-8-sig").replace(":", ",").splitlines()
    rows = [[cell.strip() for cell in row] for row in csv.reader(lines) if row]
    rows = [row for row in rows if not row[0].startswith("#")]
    found = []
    for row in rows:
        if len(row) >= 4 and all(map(str.isdigit, row[1:4])):  # name, r, g, b
            red, green, blue = map(int, row[1:4])
            value = (1 << 24) + (red << 16) + (green << 8) + blue
            found.append((row[0], (red, green, blue), value))
        elif len(row) == 2 and row[0].isdigit():  # Pixel Value, Class
            found.append((row[1], voc_color(int(row[0])), int(row[0])))
    return found


def _translate(
    path: Path,
    read_values: Callable[[Path], np.ndarray],
    table: dict[int, int],
    skipped: Counter[str],
) -> np.ndarray:
    values = read_values(path)
    unique, inverse = np.unique(values, return_inverse=True)
    indices = np.array([table.get(value, IGNORE_INDEX) for value in unique.tolist()], np.uint8)
    return indices[inverse].reshape(values.shape)
