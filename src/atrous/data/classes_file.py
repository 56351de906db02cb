"""Files of class names and colours: `classes.toml`, and the lists of labelling tools."""

import csv
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from atrous.bands import MAX_BANDS, Ranges, check_ranges
from atrous.classes import IGNORE_INDEX, Classes, Color, build_classes
from atrous.errors import DataError, did_you_mean
from atrous.parsing import is_plain_name, parse_toml

FILENAME = "classes.toml"
_NUMBER_AT_COLON = re.compile(r"^\s*\d+\s*:|:\s*\d*\s*([,:]|$)")
_KEYS = ("ignore_index", "names", "colors", "bands", "range")


def read_classes_file(path: Path) -> tuple[Classes, int]:
    """Read `names` (required), `colors` and `ignore_index` (default 255) of a `classes.toml`.

    Returns:
        The classes, with VOC's palette if no colours are given, and the ignore index.

    Raises:
        DataError: The file is not TOML, or a key is unknown, missing or has an invalid value.
    """
    try:
        return parse_classes(path.read_text(encoding="utf-8-sig"), path)
    except (OSError, ValueError) as error:
        raise DataError(f"Cannot read {path}: {error}.") from error


def parse_classes(text: str, path: Path | str) -> tuple[Classes, int]:
    """Parse the text of a `classes.toml`, see `read_classes_file`; `path` is for messages."""
    content = _parse(text, path)
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


class NamedClass(NamedTuple):
    """A line of a class list: a name, with the mask value (or -1) and colour that it states."""

    name: str
    value: int
    color: Color | None

    @property
    def has_numbers(self) -> bool:
        """Whether the line states a value or a colour."""
        return self.value >= 0 or self.color is not None


def parse_class_lines(path: Path) -> list[tuple[str, NamedClass]]:
    """Return the lines of a text file that have a name, and their classes.

    A line has a name and, in any order, nothing, a mask value, a colour, or a mask value and a
    colour, separated by commas, semicolons, colons or tabs; a value may also stand before the name
    (`3 road`), and numbers of a colour may be separated by spaces. Comments (#) are skipped.

    Raises:
        DataError: The file cannot be read.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
        return [(line, row) for line in lines if (row := _parse_line(line)).name]
    except (OSError, ValueError, csv.Error) as error:
        raise DataError(f"Cannot read {path} as text in UTF-8: {error}.") from error


def _parse_line(line: str) -> NamedClass:
    names: list[str] = []
    numbers: list[int] = []
    text = "" if line.startswith("#") else re.sub(r"[;\t]", ",", line)
    if _NUMBER_AT_COLON.search(text):  # `light: red` is a name
        text = text.replace(":", ",")
    text = re.sub(r"^\s*(\d{1,9})\s+([^\d,][^,]*)$", r"\1,\2", text)
    for cell in map(str.strip, next(csv.reader([text], skipinitialspace=True), [])):
        if cell and all(word.isdecimal() and len(word) < 10 for word in cell.split()):
            numbers += map(int, cell.split())
        elif cell:
            names.append(cell)
    if not names and len(numbers) == 4:
        names = [str(numbers[0])]
    color = None
    if len(numbers) >= 3 and max(numbers[-3:]) <= 255:
        color = numbers[-3], numbers[-2], numbers[-1]
    value = numbers[0] if len(numbers) not in (0, 3) else -1
    return NamedClass(names[0] if names else "", value, color)


@dataclass(frozen=True)
class ClassList:
    """Classes, and how masks show them."""

    classes: Classes
    values: tuple[int, ...] | None  # mask value of each class; None if masks show the colours
    ignore_index: int | None = None  # None if the file does not state it


def read_class_list(path: Path) -> ClassList:
    """Read what the values or colours of masks mean.

    A `classes.toml`, or lines such as `name,red,green,blue` (class_dict.csv),
    `name:red,green,blue::` (labelmap.txt of CVAT) or `value,name` (_classes.csv of Roboflow); see
    `parse_class_lines`. The first line may be a heading.

    Raises:
        DataError: The file cannot be read, a line means nothing, no class is listed, or a name,
            colour or value is listed twice.
    """
    if path.suffix.lower() == ".toml":
        classes, ignore_index = read_classes_file(path)
        return ClassList(classes, tuple(range(len(classes))), ignore_index)
    lines = parse_class_lines(path)
    rows = [row for _, row in lines if row.has_numbers]
    if not rows or not all(row.has_numbers for _, row in lines[1:]):
        wrong = [line for line, row in lines if not row.has_numbers]
        raise DataError(
            f"{path} is no list of classes: {f'{wrong[-1][:60]!r}' if wrong else 'an empty file'} "
            "is neither `name,red,green,blue`, such as road,128,64,128, nor `value,name`, such as "
            "3,road."
        )
    names = [row.name for row in rows]
    values = [row.value for row in rows if row.value >= 0]
    colors = [row.color for row in rows if row.color is not None]
    keys = [one for one in (values, colors) if len(one) == len(rows)]
    if not keys or any(len(set(one)) < len(one) for one in keys) or not _is_list_of_names(names):
        raise DataError(
            f"{path} must list at most {IGNORE_INDEX} classes, all by value or all by colour, and "
            "none of the names, values and colours twice."
        )
    _check_plain(path, names)
    return ClassList(
        build_classes(names, colors if colors in keys else None),
        tuple(values) if values in keys else None,
    )


def parse_bands(text: str, path: Path | str) -> tuple[int | None, Ranges | None]:
    """Parse `bands` and `range` of a `classes.toml`.

    `range` is [low, high] for all bands, or one such pair per band.

    Returns:
        Number of bands and range of each band; None for what is not given.

    Raises:
        DataError: The file is not TOML, or a value is invalid.
    """
    content = _parse(text, path)
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


def _parse(text: str, path: Path | str) -> dict[str, Any]:
    try:
        return parse_toml(text)
    except ValueError as error:
        raise DataError(f"Cannot read {path}: {error}.") from error


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
