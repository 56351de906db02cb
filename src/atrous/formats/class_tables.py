"""Tables of class names beside masks: `_classes.csv`, `labelmap.txt`, `data.yaml` and others."""

import csv
import re
from pathlib import Path
from typing import NamedTuple

from atrous.classes import Color
from atrous.data.pairs import IMAGE_SUFFIXES
from atrous.errors import DataError
from atrous.extras import import_extra

_NAMES = (
    "labelmap.txt", "class_dict.csv", "class_dict_seg.csv", "_classes.csv", "classes.csv",
    "label_colors.txt", "classes.txt", "class_names.txt", "codes.txt", "labels.txt",
    "data.yaml", "data.yml", "dataset.yaml",
)  # fmt: skip
_INDEX_AND_NAME = re.compile(r"(\d+)\s+(\D.*)")


class NamedClass(NamedTuple):
    """A class of a table: its name, its mask value, and its colour if the table has one."""

    name: str
    value: int
    color: Color | None


def read_class_table(root: Path) -> tuple[Path, list[NamedClass]] | None:
    """Return the first table of class names below a folder that has rows.

    Raises:
        DataError: The table cannot be read.
    """
    files = {path.name.lower(): path for path in sorted(root.rglob("*"), reverse=True)}
    for path in (files[name] for name in _NAMES if name in files):
        if path.suffix in (".yaml", ".yml"):
            names = read_yaml_names(path)
            return path, [NamedClass(name, i, None) for i, name in enumerate(names)]
        if rows := _read_rows(path):
            return path, rows
    return None


def read_yaml_names(path: Path) -> list[str]:
    """Return the class names of a YOLO data file: a list, or a table from number to name.

    Raises:
        DataError: The file has none.
        ConfigError: PyYAML is not installed.
    """
    yaml = import_extra("yaml", "labels")
    try:
        names = yaml.safe_load(path.read_text(encoding="utf-8"))["names"]
        names = [names[i] for i in sorted(names)] if isinstance(names, dict) else list(names)
    except (yaml.YAMLError, OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise DataError(f"{path} has no list of class names under 'names' ({error}).") from None
    return list(map(str, names))


def _read_rows(path: Path) -> list[NamedClass]:
    """Return the classes of a text file.

    A row has a name and, in any order, nothing, a mask value, a colour, or a mask value and a
    colour. Without values, rows count from 0. Rows without numbers are headings if others have
    numbers.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read as text in UTF-8: {error}.") from None
    rows = [_split_row(line) for line in text.splitlines() if not line.startswith("#")]
    rows = [(name, numbers) for name, numbers in rows if name]
    if any(Path(name).suffix.lower() in IMAGE_SUFFIXES for name, _ in rows):
        return []  # a list of images
    if any(numbers for _, numbers in rows):
        rows = [(name, numbers) for name, numbers in rows if numbers]
    classes: list[NamedClass] = []
    for name, numbers in rows:
        value = numbers[0] if len(numbers) not in (0, 3) else len(classes)
        color = None
        if len(numbers) >= 3 and max(numbers[-3:]) <= 255:
            red, green, blue = numbers[-3:]
            color = red, green, blue
        classes.append(NamedClass(name, value, color))
    return classes


def _split_row(line: str) -> tuple[str, list[int]]:
    """Return the first text and all whole numbers of a line."""
    numbers: list[int] = []
    names: list[str] = []
    for cell in next(csv.reader([re.sub(r"[:;\t]", ",", line)], skipinitialspace=True), []):
        cell = cell.strip()
        words = cell.split()
        if words and all(word.isdecimal() and len(word) < 10 for word in words):
            numbers += map(int, words)
        elif match := _INDEX_AND_NAME.fullmatch(cell):
            numbers.append(int(match[1]))
            names.append(match[2])
        elif cell:
            names.append(cell)
    return (names[0] if names else ""), numbers
