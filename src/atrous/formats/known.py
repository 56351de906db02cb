"""All formats, and which of them a dataset has."""

from collections import Counter
from pathlib import Path

from atrous.errors import ConfigError, DataError, did_you_mean
from atrous.formats import (
    ade20k,
    cityscapes,
    coco,
    coco_panoptic,
    cvat,
    folders,
    instances,
    label_studio,
    labelme,
    nnunet,
    rle_table,
    supervisely,
    yolo,
)
from atrous.formats.source import Source

_MODULES = (
    cityscapes, ade20k, supervisely, coco, coco_panoptic, label_studio, labelme, cvat, nnunet,
    rle_table, folders, yolo, instances,
)  # fmt: skip

FORMATS = {module.__name__.rpartition(".")[2]: module for module in _MODULES}
"""Modules of the formats by name, in the order in which they are tried."""


def read_source(path: Path, format: str) -> Source:
    """Read a foreign dataset.

    Raises:
        ConfigError: `format` is unknown.
        DataError: The path does not exist, has no known format, or holds no image.
    """
    if not path.exists():
        raise DataError(f"There is no file or folder {path}.")
    if format not in ("auto", *FORMATS):
        raise ConfigError(f"There is no format '{format}'.{did_you_mean(format, FORMATS)}")
    for name, module in FORMATS.items():
        if format in (name, "auto") and (found := module.find(path)):
            source = module.read(path, found)
            if source.items:
                return source
            skipped = [f"{count} {reason}" for reason, count in source.skipped.items() if count]
            reasons = "; ".join(skipped) or "it lists none"
            raise DataError(
                f"{path} is {source.format}, but no image of it can be used: {reasons}."
            )
    if format != "auto":
        found = find_format(path)
        hint = f"It has the format {found}." if found else f"Known are {', '.join(FORMATS)}."
        raise DataError(f"{path} is no dataset of the format {format}. {hint}")
    files = [path] if path.is_file() else (file for file in path.rglob("*") if file.is_file())
    suffixes = Counter(file.suffix.lower() or "no suffix" for file in files).most_common(5)
    found = ", ".join(f"{count} files of {suffix}" for suffix, count in suffixes) or "no files"
    raise DataError(
        f"{path} has no known format; it holds {found}. Known are {', '.join(FORMATS)}. Give the "
        "folder that holds both images and labels, all files of the export."
    )


def find_format(path: Path) -> str | None:
    """Return the name of the format that a folder or file has; None if it is not known."""
    try:
        return next((name for name, module in FORMATS.items() if module.find(path)), None)
    except DataError:  # a label file is damaged
        return None
