"""nnU-Net, versions 1 and 2: `dataset.json`, `imagesTr/CASE_0000.png` and `labelsTr/CASE.png`."""

from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from atrous.classes import IGNORE_INDEX
from atrous.data.mask_values import renumber
from atrous.errors import DataError, shorten
from atrous.formats.label_files import read_json
from atrous.formats.source import SUFFIXES, Item, Source, name_classes
from atrous.images.reading import read_indices

_IGNORED = "ignore"
_VOLUMES = (".gz", ".nii", ".mha", ".mhd", ".nrrd")


def find(root: Path) -> list[Path]:
    """Return `dataset.json` if there is a folder `labelsTr` beside it."""
    path = root / "dataset.json"
    return [path] if path.is_file() and (root / "labelsTr").is_dir() else []


def read(root: Path, found: list[Path]) -> Source:
    """Read the training cases, and the test cases whose labels are there.

    Several files of a case, one per channel, become one TIFF with as many bands. Pixels of the
    label `ignore` are ignored.

    Raises:
        DataError: The files are volumes, the labels are regions, or a case lacks a channel.
    """
    (path,) = found
    content = read_json(path)
    content = content if isinstance(content, dict) else {}
    labels = _read_labels(path, content)
    names = [name for name in labels if name != _IGNORED]
    classes, by_name = name_classes(names, path, has_background=False)
    table = {value: by_name.get(name, IGNORE_INDEX) for name, value in labels.items()}
    source = Source("nnU-Net", classes, [])
    num_channels = 0
    for images, masks, split in (("imagesTr", "labelsTr", None), ("imagesTs", "labelsTs", "test")):
        cases = _list_cases(root / images)
        for mask in _list_files(root / masks):
            first, *others = channels = cases.pop(mask.stem, [mask])
            if first is mask:
                source.skipped["masks without an image"] += 1
                continue
            num_channels = num_channels or len(channels)
            expected = [f"{mask.stem}_{channel:04}" for channel in range(num_channels)]
            if [channel.stem for channel in channels] != expected:
                raise DataError(
                    f"{root / images} has {len(channels)} files of the case {mask.stem}, but "
                    f"should have {shorten(expected)}, as of the first case."
                )
            load = partial(_translate, mask, table)
            source.items.append(Item(first, split, load, (mask,), tuple(others)))
        source.skipped["images without a mask"] += len(cases)
    return source


def _read_labels(path: Path, content: dict[Any, Any]) -> dict[str, int]:
    """Return the values of the names, in order: version 1 writes `"0": "background"`."""
    labels: Any = content.get("labels")
    try:
        pairs = [
            (int(key), value)
            if str(key).isdigit() and isinstance(value, str)
            else (int(value), key)
            for key, value in labels.items()
        ]
    except (AttributeError, TypeError, ValueError, OverflowError):
        raise DataError(
            f"{path} needs `labels` with one value for each name. Labels that are regions of "
            "several values cannot be imported: name each value of the masks."
        ) from None
    return {name: value for value, name in sorted(pairs)}


def _list_cases(folder: Path) -> dict[str, list[Path]]:
    cases: dict[str, list[Path]] = {}
    for path in _list_files(folder):
        cases.setdefault(path.stem[:-5], []).append(path)
    return cases


def _list_files(folder: Path) -> list[Path]:
    files = [path for path in sorted(folder.glob("*")) if not path.name.startswith(".")]
    if volumes := [path for path in files if path.suffix.lower() in _VOLUMES]:
        raise DataError(
            f"{volumes[0]} is a volume, and only 2-D images can be imported. Save the slices of "
            "the images and of their labels as PNG or TIFF, and set `file_ending` in dataset.json."
        )
    return [path for path in files if path.suffix.lower() in SUFFIXES]


def _translate(path: Path, table: dict[int, int], skipped: Counter[str]) -> np.ndarray:
    values = read_indices(path)
    if unknown := set(np.unique(values).tolist()) - table.keys():
        named = shorten(sorted(unknown))
        raise DataError(f"The mask {path} has values that no label of dataset.json names: {named}.")
    return renumber(values, table)
