"""YOLO segmentation: `data.yaml`, and a text file of normalised polygons per image."""

from collections import Counter
from functools import partial
from pathlib import Path

import numpy as np

from atrous.data.pairs import list_image_files
from atrous.formats.canvas import Canvas
from atrous.formats.class_tables import read_yaml, read_yaml_names
from atrous.formats.label_files import has_word
from atrous.formats.source import SPLITS, Item, Source, SplitLists, find_split, name_classes


def find(root: Path) -> list[Path]:
    """Return `data.yaml` or another YAML file with names, if it is there."""
    files = [root] if root.suffix in (".yaml", ".yml") else sorted(root.glob("*.y*ml"))
    return [path for path in files if has_word(path, "names")][:1]


def read(root: Path, found: list[Path]) -> Source:
    """Read the label files beside all images.

    Pixels of no polygon are background, class 0. Later lines lie on top. Splits are those of the
    folders, or of lists and folders that the YAML file names.

    Raises:
        DataError: The YAML file has no names.
        ConfigError: PyYAML is not installed.
    """
    (path,) = found
    folder = path.parent
    names = read_yaml_names(path)
    classes, by_name = name_classes(names, path)
    indices = [by_name[name] for name in names]
    source, listed = Source("YOLO segmentation", classes, []), _read_lists(path)
    for labels in sorted(folder.rglob("labels")):
        for label_folder in [labels, *sorted(p for p in labels.rglob("*") if p.is_dir())]:
            inside = label_folder.relative_to(labels)
            images = labels.parent / "images" / inside
            split = find_split([*inside.parts, *labels.relative_to(folder).parts[:-1]])
            stems = {"classes"}
            for image in list_image_files(images):
                stems.add(image.stem)
                label = label_folder / f"{image.stem}.txt"
                if not label.is_file():
                    source.skipped["images without a label file (background only)"] += 1
                load = partial(_draw, image, label, indices)
                split_of_image = split or listed.find(image) or None
                source.items.append(Item(image, split_of_image, load, (label,)))
            alone = [file for file in label_folder.glob("*.txt") if file.stem not in stems]
            source.skipped["label files without an image"] += len(alone)
    source.notes += listed.describe(item.image for item in source.items)
    return source


def _read_lists(path: Path) -> SplitLists:
    """Read the lists of images, and list the folders, of each split of a YAML file."""
    lists, content = SplitLists(), read_yaml(path)
    folder = path.parent / str(content.get("path") or "")
    for split in {*SPLITS} & content.keys():
        given = content[split]
        for place in map(str, given if isinstance(given, list) else [given]):
            for file in (folder / place, path.parent / place, path.parent / Path(place).name):
                if file.suffix == ".txt" and file.is_file():
                    lists.add(split, file.read_text(encoding="utf-8-sig").splitlines())
                    break
                if file.is_dir():
                    lists.add(split, (str(image) for image in file.rglob("*")))
                    break
    return lists


def _draw(image: Path, label: Path, indices: list[int], skipped: Counter[str]) -> np.ndarray:
    canvas = Canvas.for_image(image)
    width, height = canvas.image.size
    text = label.read_text(encoding="utf-8-sig", errors="replace") if label.is_file() else ""
    for line in filter(None, map(str.strip, text.splitlines())):
        values = _parse(line)
        points = [(x * width, y * height) for x, y in zip(values[1::2], values[2::2], strict=False)]
        is_known = values and len(values) % 2 and values[0] in range(len(indices))
        if len(values) == 5:
            skipped["boxes without a polygon"] += 1
        elif not is_known or not canvas.draw_polygon(points, indices[int(values[0])]):
            skipped["lines that are no polygon of a known class"] += 1
    return canvas.to_mask()


def _parse(line: str) -> list[float]:
    try:
        return [float(word) for word in line.split()]
    except ValueError:
        return []
