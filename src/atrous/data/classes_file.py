"""Files of class names and colours: `classes.toml`, and the lists of labelling tools."""

import csv
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from atrous.bands import MAX_BANDS, Ranges, check_ranges
from atrous.classes import IGNORE_INDEX, Classes, Color, build_classes
from atrous.errors import DataError, did_you_mean
from atrous.parsing import is_plain_name, parse_toml

FILENAME = "classes.toml"
_KEYS = ("ignore_index", "names", "colors", "bands", "range")
_CVAT_COLOR = re.compile(r":(\d+,\d+,\d+):[^:]*:[^:]*$")


def read_classes_file(path: Path) -> tuple[Classes, int]:
    """Read `names` (required), `colors` and `ignore_index` (default 255) of a `classes.toml`.

    Returns:
        The classes, with VOC's palette if no colours are given, and the ignore index.

    Raises:
        DataError: The file is not TOML, or a key is unknown, missing or has an invalid value.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        raise DataError(f"Cannot read {path}: {error}.") from error
    return parse_classes(text, path)


def parse_classes(text: str, path: Path | str) -> tuple[Classes, int]:
    """Parse the text of a `classes.toml`, see `read_classes_file`; `path` is for messages."""
    try:
        content = parse_toml(text)
    except ValueError as error:
        raise DataError(f"Cannot read {path}: {error}.") from error
    for key in content:
        if key not in _KEYS:
            raise DataError(f"{path} has an unknown key '{key}'.{did_you_mean(key, _KEYS)}")
    names: Any = content.get("names")
    colors: Any = content.get("colors")
    if not _is_list_of_names(names):
        raise DataError(
            f"{path} needs `names`, a list of 1 to 255 different class names in the order of "
            f'their mask values, such as names = ["road", "car"]; it has {names!r}.'
        )
    _check_plain(path, names)
    if colors is not None and not (isinstance(colors, list) and all(map(_is_color, colors))):
        raise DataError(
            f"`colors` in {path} must be a list of [red, green, blue], each 0 to 255, "
            "one per class."
        )
    if colors is not None and len(colors) != len(names):
        raise DataError(
            f"{path} has {len(names)} names but {len(colors)} colors. Give one colour per name, "
            "or leave `colors` out."
        )
    ignore_index = content.get("ignore_index", IGNORE_INDEX)
    if type(ignore_index) is not int:
        raise DataError(
            f"`ignore_index` in {path} must be a whole number, the mask value of ignored pixels; "
            f"it is {ignore_index!r}."
        )
    return build_classes(names, colors), ignore_index


@dataclass(frozen=True)
class ClassList:
    """Classes, and how masks show them.

    Attributes:
        classes: Names and colours.
        values: Mask value of each class; None if masks show the colours.
        ignore_index: Mask value of ignored pixels; None if the file does not state it.
    """

    classes: Classes
    values: tuple[int, ...] | None
    ignore_index: int | None = None


def read_class_list(path: Path) -> ClassList:
    """Read what the values or colours of masks mean.

    A `classes.toml`, or lines of `name,red,green,blue` (class_dict.csv), `name:red,green,blue::`
    (labelmap.txt of CVAT) or `value,name` (_classes.csv of Roboflow), also with semicolons or tabs.
    Comments (#), a heading and empty lines are skipped.

    Raises:
        DataError: The file cannot be read, a line means nothing, no class is listed, or a name,
            colour or value is listed twice.
    """
    if path.suffix.lower() == ".toml":
        classes, ignore_index = read_classes_file(path)
        return ClassList(classes, tuple(range(len(classes))), ignore_index)
    try:
        text = path.read_text(encoding="utf-8-sig")
        lines = [_CVAT_COLOR.sub(r",\1", line) for line in text.splitlines()]
        separator = next((mark for mark in ";\t" if mark in text), ",")
        cells = [list(map(str.strip, row)) for row in csv.reader(lines, delimiter=separator)]
    except (OSError, ValueError, csv.Error) as error:
        raise DataError(f"Cannot read {path}: {error}.") from error
    rows = [row for row in cells if any(row) and not row[0].startswith("#")]
    body = rows if rows and _parse_row(rows[0]) else rows[1:]  # without a heading
    entries = [entry for row in body if (entry := _parse_row(row))]
    if not entries or len(entries) < len(body):
        wrong = [",".join(row) for row in body or rows if not _parse_row(row)]
        raise DataError(
            f"{path} is no list of classes: {f'{wrong[0][:60]!r}' if wrong else 'an empty file'} "
            "is neither `name,red,green,blue`, such as road,128,64,128, nor `value,name`, such as "
            "3,road."
        )
    names, keys = [name for name, _ in entries], [key for _, key in entries]
    values = tuple(key for key in keys if isinstance(key, int))
    colors = [key for key in keys if not isinstance(key, int)]
    if (values and colors) or len(set(keys)) < len(keys) or not _is_list_of_names(names):
        raise DataError(
            f"{path} must list at most {IGNORE_INDEX} classes, all by value or all by colour, and "
            "none of the names, values and colours twice."
        )
    _check_plain(path, names)
    return ClassList(build_classes(names, colors or None), values or None)


def _parse_row(row: list[str]) -> tuple[str, int | Color] | None:
    """Return the name of a class with its mask value or colour; None for another line."""
    numbers = [int(cell) for cell in row[1:4] if re.fullmatch("[0-9]{1,3}", cell)]
    if row[0] and len(numbers) == 3 and max(numbers) <= 255:
        return row[0], (numbers[0], numbers[1], numbers[2])
    if len(row) == 2 and row[1] and re.fullmatch("[0-9]{1,5}", row[0]):
        return row[1], int(row[0])
    return None


def parse_bands(text: str, path: Path | str) -> tuple[int | None, Ranges | None]:
    """Parse `bands` and `range` of a `classes.toml` that `parse_classes` accepts.

    `range` is [low, high] for all bands, or one such pair per band.

    Returns:
        Number of bands and range of each band; None for what is not given.

    Raises:
        DataError: A value is invalid.
    """
    content = parse_toml(text)
    bands, given = content.get("bands"), content.get("range")
    if "bands" in content and not (type(bands) is int and 1 <= bands <= MAX_BANDS):
        raise DataError(f"`bands` in {path} must be a whole number from 1 to {MAX_BANDS}.")
    if given is None:
        return bands, None
    pairs = given if isinstance(given, list) and given and isinstance(given[0], list) else [given]
    try:
        ranges = check_ranges(tuple((float(low), float(high)) for low, high in pairs)) or ()
    except (ValueError, TypeError) as error:
        raise DataError(
            f"`range` in {path} must be two numbers, the lower first, such as range = [0, 4095], "
            f"or a list of one such pair per band: {error}."
        ) from None
    if bands is None and given is pairs:
        bands = len(ranges)
    if bands is None:
        raise DataError(f"{path} gives a `range` for all bands; add their number, as in bands = 4.")
    if len(ranges) not in (1, bands):
        raise DataError(f"{path} has {len(ranges)} ranges, but bands = {bands}. Give one per band.")
    return bands, ranges if len(ranges) == bands else ranges * bands


def format_classes(classes: Classes, ignore_index: int = IGNORE_INDEX) -> str:
    """Return the text of a `classes.toml`."""
    names = ", ".join(json.dumps(name, ensure_ascii=False) for name in classes.names)
    colors = ", ".join(str(list(color)) for color in classes.colors)
    return f"ignore_index = {ignore_index}\nnames = [{names}]\ncolors = [{colors}]\n"


def _check_plain(path: Path | str, names: list[str]) -> None:
    if invalid := [name for name in names if not is_plain_name(name)]:
        raise DataError(
            f"The class name {invalid[0]!a} in {path} contains a control character or a mark that "
            "changes the text direction. Use printable characters on one line."
        )


def format_bands(bands: int | None, ranges: Ranges | None) -> str:
    """Return the lines of a `classes.toml` on bands; '' for 8-bit RGB."""
    lines = "" if bands is None else f"bands = {bands}\n"
    return lines if ranges is None else f"{lines}range = {list(map(list, ranges))}\n"


def _is_list_of_names(value: Any) -> bool:
    return (
        isinstance(value, list)
        and all(isinstance(name, str) and name for name in value)
        and 1 <= len(value) == len(set(value)) <= IGNORE_INDEX
    )


def _is_color(value: Any) -> bool:
    channels = value if isinstance(value, list) else []
    return len(channels) == 3 and all(type(c) is int and 0 <= c <= 255 for c in channels)
