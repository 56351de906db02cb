"""What COCO's JSON files of objects and of panoptic segments share: categories and images."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from atrous.errors import DataError
from atrous.formats.label_files import Entry, ImageFiles, has_word, read_json
from atrous.formats.source import find_split


def _read_id(value: Any) -> Any:
    return int(value) if isinstance(value, float) and value.is_integer() else value


ImageId = Annotated[str, BeforeValidator(_read_id)]
"""Id of an image, also written as 1.0."""

_Size = Annotated[int, Field(gt=0)]


class Category(Entry):
    """A category."""

    id: int
    name: str
    supercategory: str | None = None


class ImageEntry(Entry):
    """An image."""

    id: ImageId
    file_name: str
    height: _Size
    width: _Size


def find_contents(root: Path, *, is_panoptic: bool) -> dict[Path, Any]:
    """Return the JSON files of a COCO export below a folder, with their contents."""
    files = sorted([*root.glob("*.json"), *root.glob("*/*.json")])
    files = [root] if root.suffix == ".json" else files
    # COCO's own folder also holds keypoints of the same images.
    kind = "panoptic" if is_panoptic else "instances"
    files = [path for path in files if path.stem.startswith(kind)] or files
    contents = {
        path: read_json(path)
        for path in files
        if has_word(path, '"categories"') and has_word(path, '"segments_info"') == is_panoptic
    }
    keys = {"images", "annotations", "categories"}
    return {p: c for p, c in contents.items() if isinstance(c, dict) and c.keys() >= keys}


def read_categories(contents: dict[Path, Any]) -> list[Category]:
    """Return the categories of all files by their ids.

    Raises:
        DataError: A category is invalid, or has another name in another file.
    """
    found: dict[int, Category] = {}
    for path, content in contents.items():
        rows = content["categories"]
        for row in rows if isinstance(rows, list) else [None]:
            category = Category.parse(row)
            if category is None:
                raise DataError(
                    f"{path}: a category needs an integer id and a name: {f'{row!r:.80}'}."
                )
            if found.setdefault(category.id, category).name != category.name:
                name = found[category.id].name
                raise DataError(f"{path}: category {category.id} is '{name}' in another place.")
    return [found[number] for number in sorted(found)]


def find_images(
    root: Path, contents: dict[Path, Any], skipped: Counter[str]
) -> Iterator[tuple[Path, Path, ImageEntry, str | None]]:
    """Yield label file, image, entry and split of each image that is there; count the others."""
    files = ImageFiles(root)
    for path, content in contents.items():
        name = path.stem.rpartition("_")[2]
        places = (name, *path.relative_to(files.folder).parts[:-1])
        rows = ImageEntry.parse_list(content["images"], skipped, "images with an invalid entry")
        for row in rows:
            if image := files.find(row.file_name, name, "images", *path.parent.parts):
                yield path, image, row, find_split(places) or files.find_split(image)
            else:
                skipped["images without a file"] += 1
