"""One split of a data set on disk, whatever its layout."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from atrous.classes import IGNORE_INDEX, VOC_NAMES, Classes, build_classes
from atrous.data import pairs, voc
from atrous.data.classes_file import FILENAME, read_classes_file
from atrous.data.mask_values import number_classes, read_mask
from atrous.data.sample import Sample, check_same_size, read_image
from atrous.data.split_files import SplitFiles, check_present
from atrous.errors import ConfigError, DataError, did_you_mean

Layout = Literal["voc", "pairs"]
FORMATS = ("auto", "voc", "pairs")

_LAYOUTS = (
    "Two layouts are known. VOC devkit: JPEGImages/NAME.jpg, SegmentationClass/NAME.png and "
    "ImageSets/Segmentation/train.txt. Pairs: train/images/NAME.jpg and train/masks/NAME.png."
)


@dataclass(frozen=True)
class SegmentationDataset:
    """One split: where the files are and what their mask values mean.

    Attributes:
        root: Folder of the data set as the user gave it.
        split: Name of the split, such as `train`.
        format: Layout on disk.
        classes: Names and colours in the order of the mask values.
        ignore_index: Mask value of ignored pixels in the files (in memory they are 255).
        names: Stems, in the order of the split.
        image_paths: One image per name.
        mask_paths: One mask per name.
    """

    root: Path
    split: str
    format: Layout
    classes: Classes
    ignore_index: int
    names: list[str]
    image_paths: list[Path]
    mask_paths: list[Path]

    def __len__(self) -> int:
        return len(self.names)

    def load(self, index: int) -> Sample:
        """Read image and mask number `index`.

        Raises:
            DataError: A file cannot be used, or the two differ in size.
        """
        image_path, mask_path = self.image_paths[index], self.mask_paths[index]
        image = read_image(image_path)
        mask = read_mask(mask_path, num_classes=len(self.classes), ignore_index=self.ignore_index)
        check_same_size(
            (image.shape[1], image.shape[2]), (mask.shape[0], mask.shape[1]), image_path, mask_path
        )
        return Sample(image, mask, self.names[index])

    def fingerprint(self) -> str:
        """Return a SHA-256 over classes, names and file sizes: cheap, and changes when files do."""
        digest = hashlib.sha256(f"{self.classes.names} {self.ignore_index}\n".encode())
        for name, image_path, mask_path in zip(
            self.names, self.image_paths, self.mask_paths, strict=True
        ):
            sizes = image_path.stat().st_size, mask_path.stat().st_size
            digest.update(f"{name} {sizes[0]} {sizes[1]}\n".encode(errors="surrogateescape"))
        return digest.hexdigest()


def open_dataset(
    root: Path | str, split: str, *, format: str = "auto", ignore_index: int | None = None
) -> SegmentationDataset:
    """List the files of one split and check that images and masks go together.

    Args:
        root: Folder of the data set: a VOC devkit (see `voc.find_devkit`) or paired folders.
        split: Name of the split, such as `train`.
        format: `voc`, `pairs`, or `auto` to tell from what is there.
        ignore_index: Mask value of ignored pixels, over the one in `classes.toml` (default 255).

    Raises:
        DataError: The folder, split, an image or a mask is missing, or the layout is unknown.
        ConfigError: `format` is unknown.
    """
    root = Path(root)
    layout, folder = find_layout(root, format)
    files = list_split_files(layout, folder, split)
    check_present(split, (path for pair in files.values() for path in pair))
    classes, own_ignore_index = read_given_classes(root, layout, folder) or (None, IGNORE_INDEX)
    ignore_index = own_ignore_index if ignore_index is None else ignore_index
    if classes is None:
        classes = number_classes(_list_masks(layout, folder), ignore_index)
    return SegmentationDataset(
        root=root,
        split=split,
        format=layout,
        classes=classes,
        ignore_index=ignore_index,
        names=list(files),
        image_paths=[image_path for image_path, _ in files.values()],
        mask_paths=[mask_path for _, mask_path in files.values()],
    )


def read_given_classes(root: Path, layout: Layout, folder: Path) -> tuple[Classes, int] | None:
    """Return the classes and ignore index that a data set states; None where only masks tell.

    They stand in a `classes.toml` in either folder; VOC's own data has VOC's classes.

    Raises:
        DataError: `classes.toml` or a split list cannot be read.
    """
    for place in (folder, root):
        if (place / FILENAME).is_file():
            return read_classes_file(place / FILENAME)
    if layout == "voc" and voc.has_voc_names(folder):
        return build_classes(VOC_NAMES), IGNORE_INDEX
    return None


def list_splits(root: Path | str, *, format: str = "auto") -> list[str]:
    """Return the names of the splits of a data set, sorted.

    Raises:
        DataError: The folder is missing or of no known layout.
    """
    return _list_splits(*find_layout(Path(root), format))


def find_split_files(root: Path | str, *, format: str = "auto") -> dict[str, SplitFiles]:
    """Return split → what lies on disk for it, with no demand that it goes together.

    Raises:
        DataError: The folder is missing or of no known layout, or a split list is unreadable.
    """
    return _find_all_files(*find_layout(Path(root), format))


def list_split_files(layout: Layout, folder: Path, split: str) -> dict[str, tuple[Path, Path]]:
    """Return stem → (image, mask) of a split that can be used.

    Args:
        layout, folder: From `find_layout`.
        split: Name of the split.

    Raises:
        DataError: There is no such split, it is empty, or an image or mask is missing.
    """
    splits = _list_splits(layout, folder)
    if split not in splits:
        raise DataError(f"There is no split '{split}' in {folder}.{did_you_mean(split, splits)}")
    list_files = voc.list_voc_files if layout == "voc" else pairs.list_pairs_files
    files = list_files(folder, split)
    if not files:
        found = _find_all_files(layout, folder)[split]
        raise DataError(
            f"The split '{split}' of {folder} is empty: no images were found for it."
            f"{pairs.describe_overlooked(found.image_folder, found.mask_folder)}"
        )
    return files


def find_layout(root: Path, format: str = "auto") -> tuple[Layout, Path]:
    """Return the layout of a data set, and the folder in which it begins.

    Raises:
        DataError: The folder is missing or of no known layout.
        ConfigError: `format` is unknown.
    """
    if format not in FORMATS:
        raise ConfigError(f"Unknown data format '{format}'.{did_you_mean(format, FORMATS)}")
    if not root.is_dir():
        raise DataError(f"There is no folder {root}. Give the folder that holds the data set.")
    devkit = voc.find_devkit(root)
    if devkit is not None and format != "pairs":
        return "voc", devkit
    if format != "voc" and pairs.list_pairs_splits(root):
        return "pairs", root
    found = ", ".join(sorted(path.name for path in root.iterdir())[:10]) or "nothing"
    raise DataError(f"{root} has no layout that can be read; it holds {found}. {_LAYOUTS}")


def find_owner(folder: Path) -> Path | None:
    """Return the folder of a dataset's images or masks that a folder is or lies in, if any."""
    for place in (folder, *folder.parents):
        if (pairs.is_part(place) or voc.is_part(place)) and pairs.list_image_files(place):
            return place
    return None


def _list_splits(layout: Layout, folder: Path) -> list[str]:
    return voc.list_voc_splits(folder) if layout == "voc" else pairs.list_pairs_splits(folder)


def _find_all_files(layout: Layout, folder: Path) -> dict[str, SplitFiles]:
    find = voc.find_voc_files if layout == "voc" else pairs.find_pairs_files
    return {split: find(folder, split) for split in _list_splits(layout, folder)}


def _list_masks(layout: Layout, folder: Path) -> list[Path]:
    """Return the masks of all splits, each once, sorted."""
    all_files = _find_all_files(layout, folder).values()
    return sorted({path for files in all_files for path in files.masks.values()})
