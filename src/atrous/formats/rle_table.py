"""A table of run lengths, as of Kaggle: one CSV with image, class and pixels."""

import csv
import re
from collections import Counter
from collections.abc import Iterator
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np

from atrous.errors import DataError
from atrous.formats.label_files import ImageFiles
from atrous.formats.source import Item, Source, name_classes
from atrous.images.image_file import read_upright_hw

_IMAGE = {"imageid", "id", "image", "imagename", "filename"}
_CLASS = {"classid", "class", "label", "category"}
_BOTH = {"imageidclassid", "imagelabel"}
_PIXELS = {"encodedpixels", "rle", "rlemask", "encoding"}
_MAX_FIELD = 2**31 - 1


def find(root: Path) -> list[Path]:
    """Return the CSV files with run lengths in a folder, or those of the training set."""
    files = [root] if root.suffix == ".csv" else sorted(root.glob("*.csv"))
    files = [path for path in files if path.is_file() and "submission" not in path.stem]
    files = [path for path in files if _read_header(path)]
    return [path for path in files if "train" in path.stem.lower()] or files


def _read_header(path: Path) -> dict[str, int]:
    """Return the columns `image` or `both`, `pixels` and perhaps `class`; {} without pixels."""
    with open(path, encoding="utf-8-sig", errors="replace", newline="") as file:
        names = next(csv.reader([file.readline(10_000)]), [])
    names = [re.sub(r"[\W_]", "", name.lower()) for name in names]
    known = {"image": _IMAGE, "class": _CLASS, "both": _BOTH, "pixels": _PIXELS}
    columns = {kind: i for i, name in enumerate(names) for kind in known if name in known[kind]}
    return columns if "pixels" in columns and columns.keys() & {"image", "both"} else {}


def read(root: Path, files: list[Path]) -> Source:
    """Read all rows; those of the same image add up, the later over the earlier.

    Pixels are counted from 1, down the columns. Without classes there is one, `object`.

    Raises:
        DataError: A table is not CSV.
    """
    skipped, images = Counter[str](), ImageFiles(root)
    rows: dict[str, list[tuple[str, str]]] = {}
    tables: dict[str, Path] = {}
    for path in files:
        for stated, name, pixels in _list_rows(path, skipped):
            rows.setdefault(stated, []).append((name, pixels))
            tables.setdefault(stated, path)
    names = {name for found in rows.values() for name, _ in found if name}
    classes, indices = name_classes(sorted(names, key=lambda name: (len(name), name)), files[0])
    source = Source("a table of run lengths", classes, [], skipped)
    for stated, found in rows.items():
        if image := images.find(stated, "images", "train", "train_images"):
            load = partial(_draw, image, found, indices)
            source.items.append(Item(image, images.find_split(image), load, (tables[stated],)))
        else:
            skipped["images without a file"] += 1
    skipped["images that the table does not list"] = len(images) - len(source.items)
    return source


def _list_rows(path: Path, skipped: Counter[str]) -> Iterator[tuple[str, str, str]]:
    """Yield image, class ('' for none) and run lengths of each row."""
    csv.field_size_limit(_MAX_FIELD)
    columns = _read_header(path)
    with open(path, encoding="utf-8-sig", errors="replace", newline="") as file:
        reader = csv.reader(file)
        try:
            for row in islice(reader, 1, None):
                if len(row) <= max(columns.values()):
                    skipped["rows with too few columns"] += 1
                    continue
                image, name = row[columns.get("image", 0)], "object"
                if "both" in columns:
                    image, _, name = row[columns["both"]].rpartition("_")
                elif "class" in columns:
                    name = row[columns["class"]].strip()
                pixels = row[columns["pixels"]].strip()
                name = f"class {name}" if name.isdecimal() else name
                yield image.strip(), name, "" if pixels == "-1" else pixels
        except csv.Error as error:
            raise DataError(f"{path}, line {reader.line_num}, is not CSV: {error}.") from None


def _draw(
    image: Path, rows: list[tuple[str, str]], indices: dict[str, int], skipped: Counter[str]
) -> np.ndarray:
    height, width = read_upright_hw(image)[0]
    columns = np.zeros(width * height, np.uint8)
    for name, pixels in rows:
        if pixels and not _fill(columns, pixels, indices.get(name, 0)):
            skipped["rows whose run lengths do not fit"] += 1
    return np.ascontiguousarray(columns.reshape(width, height).T)


def _fill(columns: np.ndarray, pixels: str, index: int) -> bool:
    try:
        starts, lengths = np.array(pixels.split(), dtype=np.int64).reshape(-1, 2).T
    except (ValueError, OverflowError):
        return False
    is_valid = (starts >= 1) & (starts <= columns.size) & (lengths >= 1)
    is_valid &= lengths <= columns.size + 1 - starts
    if not index or not is_valid.all() or lengths.sum() > columns.size:
        return False
    for start, length in zip(starts.tolist(), lengths.tolist(), strict=True):
        columns[start - 1 : start - 1 + length] = index
    return True
