"""The layout of the PASCAL VOC development kit, 2007 to 2012.

    VOCdevkit/VOC2012/JPEGImages/2007_000032.jpg
    VOCdevkit/VOC2012/SegmentationClass/2007_000032.png
    VOCdevkit/VOC2012/ImageSets/Segmentation/train.txt    one stem per line

Source: Everingham et al. 2015, "The PASCAL Visual Object Classes Challenge: A Retrospective".
"""

import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from atrous.data.pairs import describe_overlooked
from atrous.data.sample import shorten
from atrous.data.split_files import SplitFiles
from atrous.errors import DataError

_VOC_NAME = re.compile(r"20(0[7-9]|1[0-2])_\d{6}")


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


def find_voc_files(devkit: Path, split: str) -> SplitFiles:
    """Find the files of the names in a split list, there or not.

    Raises:
        DataError: The list cannot be read.
    """
    split_list = find_split_list(devkit, split)
    try:
        lines = split_list.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, ValueError) as error:
        raise DataError(f"Cannot read the split list {split_list}: {error}.") from error
    listed = Counter(line.split()[0] for line in lines if line.strip())
    image_folder, mask_folder = devkit / "JPEGImages", devkit / "SegmentationClass"
    return SplitFiles(
        names=list(listed),
        images=_find_listed(image_folder, ".jpg", listed),
        masks=_find_listed(mask_folder, ".png", listed),
        image_folder=image_folder,
        mask_folder=mask_folder,
        listed_twice=sorted(name for name, times in listed.items() if times > 1),
    )


def find_split_list(devkit: Path, split: str) -> Path:
    """Return where the names of a split are listed."""
    return devkit / "ImageSets" / "Segmentation" / f"{split}.txt"


def list_voc_files(devkit: Path, split: str) -> dict[str, tuple[Path, Path]]:
    """Return stem → (picture, mask) in the order of the split list.

    Raises:
        DataError: A listed picture or mask is missing, or a name is listed twice.
    """
    split_list = find_split_list(devkit, split)
    files = find_voc_files(devkit, split)
    if twice := files.listed_twice:
        raise DataError(f"{split_list} names {len(twice)} pictures twice: {shorten(twice)}.")
    for what, missing, folder, suffix in (
        ("picture", files.without_image, files.image_folder, ".jpg"),
        ("mask", files.without_mask, files.mask_folder, ".png"),
    ):
        if missing:
            raise DataError(
                f"{len(missing)} of the {len(files.names)} names in {split_list} have no {what} in "
                f"{folder}: {shorten(missing)}. Add the {suffix} files, or take the names off the "
                f"list.{describe_overlooked(folder)}"
            )
    return files.pairs


def has_voc_names(devkit: Path) -> bool:
    """Tell whether most listed names are VOC's own, so that its 21 classes are meant.

    Names of 2008 and later have the year in front; those of 2007 are bare numbers, as in many
    other data sets, so that an annotation file has to say that they are VOC's.
    """
    names = [
        name for split in list_voc_splits(devkit) for name in find_voc_files(devkit, split).names
    ]
    num_own = sum(_VOC_NAME.fullmatch(name) is not None for name in names)
    if 2 * num_own > len(names):
        return True
    annotation = devkit / "Annotations" / f"{names[0] if names else ''}.xml"
    return annotation.is_file() and b"VOC2007" in annotation.read_bytes()


def _find_listed(folder: Path, suffix: str, listed: Iterable[str]) -> dict[str, Path]:
    present = {path.name for path in folder.glob(f"*{suffix}")}
    return {name: folder / (name + suffix) for name in listed if name + suffix in present}
