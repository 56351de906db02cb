"""The layout of the PASCAL VOC development kit, 2007 to 2012.

    VOCdevkit/VOC2012/JPEGImages/2007_000032.jpg
    VOCdevkit/VOC2012/SegmentationClass/2007_000032.png
    VOCdevkit/VOC2012/ImageSets/Segmentation/train.txt    one stem per line

A stem may contain spaces, with or without quotation marks, and folders: `north/street 1`. Images
and masks may have any suffix of `IMAGE_SUFFIXES`, in upper or lower case. In lists as in
`ImageSets/Main`, -1, 0 or 1 follows every name.

Source: Everingham et al. 2015, "The PASCAL Visual Object Classes Challenge: A Retrospective".
"""

import re
from collections import Counter
from collections.abc import Collection
from pathlib import Path, PurePosixPath

from atrous.data.pairs import IMAGE_SUFFIXES, list_image_files
from atrous.data.split_files import SplitFiles, normalize_name
from atrous.errors import DataError

_VOC_NAME = re.compile(r"20(0[7-9]|1[0-2])_\d{6}")
_WITH_PRESENCE = re.compile(r"(.*[^ \t])[ \t]+(?:-1|0|1)")
"""A line of `ImageSets/Main`: a name, and whether the image contains a class."""


def find_devkit(root: Path) -> Path | None:
    """Return the folder with `ImageSets/Segmentation`, or None.

    `root` is the folder of a year, `VOCdevkit`, or the folder that contains `VOCdevkit`. Of
    several years, the newest is returned.
    """
    years = sorted([*root.glob("VOC20*"), *root.glob("VOCdevkit/VOC20*")], key=lambda p: p.name)
    for folder in (root, *reversed(years)):
        if (folder / "ImageSets" / "Segmentation").is_dir():
            return folder
    return None


def is_part(folder: Path) -> bool:
    """Return whether a folder holds the images or masks of a devkit."""
    names = ("JPEGImages", "SegmentationClass", "SegmentationObject")
    return folder.name in names and find_devkit(folder.parent) == folder.parent


def list_voc_splits(devkit: Path) -> list[str]:
    """Return the names of the split lists, sorted."""
    lists = (devkit / "ImageSets" / "Segmentation").glob("*.txt")
    return sorted(path.stem for path in lists if not path.name.startswith("."))


def find_voc_files(devkit: Path, split: str) -> SplitFiles:
    """Return the files of the names in a split list, complete or not.

    Raises:
        DataError: The list cannot be read.
    """
    image_folder, mask_folder = devkit / "JPEGImages", devkit / "SegmentationClass"
    listed = _read_names(find_split_list(devkit, split))
    columns = [_WITH_PRESENCE.fullmatch(name) for name in listed]
    for names in (listed, [_unquote(column[1]) for column in columns if column]):
        images = _find_listed(image_folder, ".jpg", names)
        masks = _find_listed(mask_folder, ".png", names)
        if images or masks or not all(columns):
            break
    times = Counter(names)
    twice = sorted(name for name in times if times[name] > 1)
    return SplitFiles(list(times), images, masks, image_folder, mask_folder, listed_twice=twice)


def find_split_list(devkit: Path, split: str) -> Path:
    """Return the path of a split list."""
    return devkit / "ImageSets" / "Segmentation" / f"{split}.txt"


def describe_suffixes(files: SplitFiles) -> str:
    """Return a text if a split list has names such as `a.jpg` instead of `a`; '' otherwise."""
    for name in files.without_image:
        path = PurePosixPath(name)
        if path.suffix.lower() in IMAGE_SUFFIXES:
            stem = path.with_suffix("")
            return f" The list has names with a suffix, such as {name}: write {stem}."
    return ""


def has_voc_names(devkit: Path) -> bool:
    """Return whether most listed names are VOC's own, so that VOC's 21 classes apply.

    Names of 2008 and later begin with the year. Those of 2007 are bare numbers, as in many other
    datasets, and count only if an annotation file names VOC2007.
    """
    splits = list_voc_splits(devkit)
    names = [name for split in splits for name in find_voc_files(devkit, split).names]
    if 2 * sum(_VOC_NAME.fullmatch(name) is not None for name in names) > len(names):
        return True
    annotation = devkit / "Annotations" / f"{names[0] if names else ''}.xml"
    return annotation.is_file() and b"VOC2007" in annotation.read_bytes()


def _read_names(split_list: Path) -> list[str]:
    try:
        content = split_list.read_bytes()
        try:
            text = content.decode("utf-8-sig")
        except UnicodeDecodeError:
            if b"\0" in content:
                raise
            text = content.decode("utf-8", "surrogateescape")  # as in file names
    except (OSError, ValueError) as error:
        raise DataError(
            f"Cannot read the split list {split_list}: {error}. Write it as text in UTF-8, one "
            "name per line."
        ) from error
    lines = (line.strip(" \t") for line in re.split("[\r\n]", text))  # names may have other spaces
    return [_unquote(normalize_name(line)) for line in lines if line]


def _unquote(name: str) -> str:
    is_quoted = len(name) > 2 and name[0] == name[-1] == '"'
    return name[1:-1] if is_quoted else name


def _find_listed(folder: Path, usual_suffix: str, names: Collection[str]) -> dict[str, Path]:
    """Return the files that exist by name; of several suffixes, `usual_suffix` is preferred."""
    present: dict[str, Path] = {}
    for parent in {PurePosixPath(name).parent for name in names}:
        if parent.is_absolute() or ".." in parent.parts:
            continue  # outside of the dataset
        inside = _enter(folder, parent)
        files = list_image_files(inside) if inside else []
        for path in sorted(files, key=lambda path: path.suffix == usual_suffix):
            present[str(parent / normalize_name(path.stem))] = path
    found = {name: present.get(str(PurePosixPath(name))) for name in names}
    return {name: path for name, path in found.items() if path is not None}


def _enter(folder: Path, parent: PurePosixPath) -> Path | None:
    """Return a folder below another, however Unicode writes its name; None if it is not there."""
    for part in parent.parts:
        inside = [path for path in folder.glob("*") if normalize_name(path.name) == part]
        if not inside:
            return None
        folder = min(inside, key=lambda path: path.name != part)
    return folder
