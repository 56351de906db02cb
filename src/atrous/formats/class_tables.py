"""Tables of class names beside masks: `_classes.csv`, `labelmap.txt`, `data.yaml` and others."""

from pathlib import Path
from typing import Any

from atrous.data.classes_file import NamedClass, parse_class_lines
from atrous.data.pairs import IMAGE_SUFFIXES
from atrous.errors import DataError
from atrous.extras import import_extra

_NAMES = (
    "labelmap.txt", "class_dict.csv", "class_dict_seg.csv", "_classes.csv", "classes.csv",
    "label_colors.txt", "classes.txt", "class_names.txt", "codes.txt", "labels.txt",
    "data.yaml", "data.yml", "dataset.yaml",
)  # fmt: skip


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


def read_yaml(path: Path) -> dict[str, Any]:
    """Read the table of a YAML file.

    Raises:
        DataError: The file cannot be read, or holds no table.
        ConfigError: PyYAML is not installed.
    """
    yaml = import_extra("yaml", "labels")
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8-sig"))
    except (yaml.YAMLError, OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path} cannot be read as YAML: {error}.") from None
    if not isinstance(content, dict):
        raise DataError(f"{path} holds no table of keys and values.")
    return content


def read_yaml_names(path: Path) -> list[str]:
    """Return the class names of a YOLO data file: a list, or a table by number.

    Raises:
        DataError: The file has none.
        ConfigError: PyYAML is not installed.
    """
    names = read_yaml(path).get("names")
    if isinstance(names, dict):
        by_number = {str(number): name for number, name in names.items()}
        names = [by_number.get(str(number)) for number in range(len(names))]
    if not isinstance(names, list) or None in names:
        raise DataError(
            f"{path} needs class names under 'names': a list, or one name for each number from 0 "
            "to the last."
        )
    return list(map(str, names))


def _read_rows(path: Path) -> list[NamedClass]:
    """Return the classes of a text file; rows without numbers are headings if others have them."""
    rows = [row for _, row in parse_class_lines(path)]
    if any(Path(row.name).suffix.lower() in IMAGE_SUFFIXES for row in rows):
        return []  # a list of images
    rows = [row for row in rows if row.has_numbers] or rows
    return [row if row.value >= 0 else row._replace(value=i) for i, row in enumerate(rows)]
