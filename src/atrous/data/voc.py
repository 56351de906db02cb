"""The layout of the PASCAL VOC development kit, 2007 to 2012.

    VOCdevkit/VOC2012/JPEGImages/2007_000032.jpg
    VOCdevkit/VOC2012/SegmentationClass/2007_000032.png
    VOCdevkit/VOC2012/ImageSets/Segmentation/train.txt    one stem per line

Source: Everingham et al. 2015, "The PASCAL Visual Object Classes Challenge: A Retrospective".
"""

from pathlib import Path

from atrous.classes import VOC_NAMES, VOID, Classes, build_classes
from atrous.data.classes_file import FILENAME, read_classes_file
from atrous.data.sample import shorten
from atrous.errors import DataError


def find_devkit(root: Path) -> Path | None:
    """Return the folder with `ImageSets/Segmentation`: `root` itself or a `VOC20xx` below it.

    `root` may be the year's folder, `VOCdevkit`, or the folder that holds `VOCdevkit`. Where
    there are several years, the newest is taken; name a year's folder to have another.
    """
    years = sorted([*root.glob("VOC20*"), *root.glob("VOCdevkit/VOC20*")], key=lambda p: p.name)
    for folder in (root, *reversed(years)):
        if (folder / "ImageSets" / "Segmentation").is_dir():
            return folder
    return None


def list_voc_splits(devkit: Path) -> list[str]:
    """Return the names of the split lists, sorted."""
    return sorted(path.stem for path in (devkit / "ImageSets" / "Segmentation").glob("*.txt"))


def list_voc_files(devkit: Path, split: str) -> dict[str, tuple[Path, Path]]:
    """Return stem → (picture, mask) in the order of the split list.

    Raises:
        DataError: A listed picture or mask is missing, or a name is listed twice.
    """
    split_list = devkit / "ImageSets" / "Segmentation" / f"{split}.txt"
    try:
        lines = split_list.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, ValueError) as error:
        raise DataError(f"Cannot read the split list {split_list}: {error}.") from error
    names = [line.split()[0] for line in lines if line.strip()]
    if len(set(names)) < len(names):
        twice = sorted({name for name in names if names.count(name) > 1})
        raise DataError(f"{split_list} names {len(twice)} pictures twice: {shorten(twice)}.")
    files = {}
    for folder, suffix in (("JPEGImages", ".jpg"), ("SegmentationClass", ".png")):
        present = {path.name for path in (devkit / folder).glob(f"*{suffix}")}
        if missing := [name for name in names if name + suffix not in present]:
            what = "picture" if folder == "JPEGImages" else "mask"
            raise DataError(
                f"{len(missing)} of the {len(names)} names in {split_list} have no {what} in "
                f"{devkit / folder}: {shorten(missing)}. Add the {suffix} files, or take the "
                "names off the list."
            )
    for name in names:
        image_path = devkit / "JPEGImages" / f"{name}.jpg"
        files[name] = (image_path, devkit / "SegmentationClass" / f"{name}.png")
    return files


def read_voc_classes(devkit: Path, root: Path) -> tuple[Classes, int]:
    """Return classes and ignore index from a `classes.toml` in either folder, else VOC's own."""
    for folder in (devkit, root):
        if (folder / FILENAME).is_file():
            return read_classes_file(folder / FILENAME)
    return build_classes(VOC_NAMES), VOID
