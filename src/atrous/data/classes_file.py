"""`classes.toml`: names and colours of the classes, and the ignore index."""

import json
from pathlib import Path
from typing import Any

from atrous.classes import IGNORE_INDEX, Classes, build_classes
from atrous.errors import DataError, did_you_mean
from atrous.parsing import is_plain_name, parse_toml

FILENAME = "classes.toml"
_KEYS = ("ignore_index", "names", "colors")


def read_classes_file(path: Path) -> tuple[Classes, int]:
    """Read `names` (required), `colors` and `ignore_index` (default 255) of a `classes.toml`.

    Returns:
        The classes, with VOC's palette if no colours are given, and the ignore index.

    Raises:
        DataError: The file is not TOML, or a key is unknown, missing or has an invalid value.
    """
    try:
        content = parse_toml(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
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
    if invalid := [name for name in names if not is_plain_name(name)]:
        raise DataError(
            f"The class name {invalid[0]!a} in {path} contains a control character or a mark that "
            "changes the text direction. Use printable characters on one line."
        )
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


def format_classes(classes: Classes, ignore_index: int = IGNORE_INDEX) -> str:
    """Return the text of a `classes.toml`."""
    names = ", ".join(json.dumps(name, ensure_ascii=False) for name in classes.names)
    colors = ", ".join(str(list(color)) for color in classes.colors)
    return f"ignore_index = {ignore_index}\nnames = [{names}]\ncolors = [{colors}]\n"


def _is_list_of_names(value: Any) -> bool:
    return (
        isinstance(value, list)
        and all(isinstance(name, str) and name for name in value)
        and 1 <= len(value) == len(set(value)) <= IGNORE_INDEX
    )


def _is_color(value: Any) -> bool:
    channels = value if isinstance(value, list) else []
    return len(channels) == 3 and all(type(c) is int and 0 <= c <= 255 for c in channels)
