"""Datasets on disk: layouts, splits, and the images and masks of one split."""

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Self

import numpy as np

from atrous.bands import Ranges
from atrous.classes import IGNORE_INDEX, VOC_NAMES, Classes, ClassSelection, build_classes
from atrous.data import pairs, voc
from atrous.data.arrays import open_array
from atrous.data.classes_file import FILENAME, parse_bands, read_classes_file
from atrous.data.mask_values import number_classes, read_mask
from atrous.data.remote import is_url
from atrous.data.sample import Sample, check_same_size, read_image, shorten
from atrous.data.shards import (
    UNFINISHED,
    File,
    ShardFile,
    Shards,
    has_shards,
    open_shards,
)
from atrous.data.split_files import SplitFiles
from atrous.errors import ConfigError, DataError, LayoutError, did_you_mean

if TYPE_CHECKING:
    from torch import Tensor

Layout = Literal["voc", "pairs", "shards"]
FORMATS = ("auto", "voc", "pairs")

_LAYOUTS = (
    "Two layouts are known. VOC devkit: JPEGImages/NAME.jpg, SegmentationClass/NAME.png and "
    "ImageSets/Segmentation/train.txt. Pairs: train/images/NAME.jpg and train/masks/NAME.png."
)


@dataclass(frozen=True)
class SegmentationDataset:
    """The files of one split and the meaning of their mask values.

    Attributes:
        root: Folder or URL of the dataset as it was given.
        split: Name of the split, such as `train`.
        format: Layout on disk.
        classes: Names and colours in the order of the mask values.
        ignore_index: Mask value of ignored pixels in the files (in memory they are 255).
        names: Stems, in the order of the split.
        image_paths: One image per name.
        mask_paths: One mask per name.
        selection: For each class of the masks, its index in `classes` or `IGNORE_INDEX`; None if
            they are the same.
        bands: Number of bands; None for 8-bit RGB, to which grey images are converted.
        ranges: Value range of each band, if it is known; it is used to fill pixels without data.
    """

    root: Path | str
    split: str
    format: Layout
    classes: Classes
    ignore_index: int
    names: list[str]
    image_paths: list[File]
    mask_paths: list[File]
    selection: tuple[int, ...] | None = None
    bands: int | None = None
    ranges: Ranges | None = None

    def __len__(self) -> int:
        return len(self.names)

    def load(self, index: int) -> Sample:
        """Read the image and the mask with this index.

        Pixels without data have the lowest value of each band, and are ignored in the mask.

        Raises:
            DataError: A file cannot be read, or the two differ in size.
        """
        image_path, mask_path = self.image_paths[index], self.mask_paths[index]
        image = read_image(image_path, bands=self.bands)
        mask = read_mask(
            mask_path, num_classes=self.num_mask_classes, ignore_index=self.ignore_index
        )
        check_same_size(
            (image.shape[1], image.shape[2]), (mask.shape[0], mask.shape[1]), image_path, mask_path
        )
        if self.selection is not None:
            mask = mask.new_tensor(self.select_indices(mask.numpy()))
        if self.bands is not None:
            _fill(image, mask, self.ranges)
        return Sample(image, mask, self.names[index])

    def read_as(self, ranges: Ranges | None) -> Self:
        """Return the same files with the bands of a model; None for 8-bit RGB."""
        return replace(self, bands=None if ranges is None else len(ranges), ranges=ranges)

    @property
    def num_mask_classes(self) -> int:
        """Number of classes in the mask files."""
        return len(self.classes) if self.selection is None else len(self.selection)

    def select(self, selection: ClassSelection) -> Self:
        """Return the same files with selected classes.

        Raises:
            ConfigError: A selected class does not exist.
        """
        if selection == ClassSelection():
            return self
        classes, indices = selection.apply(self.classes)
        return replace(self, classes=classes, selection=indices)

    def select_indices(self, indices: np.ndarray) -> np.ndarray:
        """Replace the classes of the masks by their indices in `classes`.

        Shapes:
            indices: uint8 (H, W), ignored pixels as `IGNORE_INDEX`
            returns: uint8 (H, W)
        """
        if self.selection is None:
            return indices
        table = np.full(IGNORE_INDEX + 1, IGNORE_INDEX, np.uint8)
        table[: len(self.selection)] = self.selection
        return table[indices]

    def fingerprint(self) -> str:
        """Return a SHA-256 of classes, names and file sizes; file contents are not read."""
        selected = "" if self.selection is None else f" {self.selection}"
        digest = hashlib.sha256(f"{self.classes.names} {self.ignore_index}{selected}\n".encode())
        for name, image_path, mask_path in zip(
            self.names, self.image_paths, self.mask_paths, strict=True
        ):
            sizes = _measure(image_path), _measure(mask_path)
            digest.update(f"{name} {sizes[0]} {sizes[1]}\n".encode(errors="surrogateescape"))
        return digest.hexdigest()


def open_dataset(
    root: Path | str, split: str, *, format: str = "auto", ignore_index: int | None = None
) -> SegmentationDataset:
    """List the files of one split and check that every image has a mask and the reverse.

    Args:
        root: Folder of the dataset: a VOC devkit (see `voc.find_devkit`), paired folders or shards;
            or the URL of shards.
        split: Name of the split, such as `train`.
        format: `voc`, `pairs`, or `auto` to detect the layout; shards are always detected.
        ignore_index: Mask value of ignored pixels; overrides `classes.toml` (default 255).

    Raises:
        DataError: The folder, the split, an image or a mask is missing, or the layout is unknown.
        ConfigError: `format` is unknown.
    """
    layout, folder = find_layout(root, format)
    files = list_split_files(layout, folder, split)
    paths = (path for pair in files.values() for path in pair if isinstance(path, Path))
    if gone := [path for path in paths if not path.exists()]:
        raise DataError(
            f"{len(gone)} files of split '{split}' are links to files that do not exist; the first "
            f"is {gone[0]}. Restore the files, or remove the links together with their partners "
            "and their names in split lists."
        )
    classes, own_ignore_index = read_given_classes(root, layout, folder) or (None, IGNORE_INDEX)
    ignore_index = own_ignore_index if ignore_index is None else ignore_index
    if classes is None:
        all_files = _find_all_files(layout, folder).values()
        found = {path for files in all_files for path in files.masks.values()}
        masks = sorted(path for path in found if isinstance(path, Path))
        classes = number_classes(masks, ignore_index)
    image_paths = [image_path for image_path, _ in files.values()]
    bands, ranges = read_given_bands(root, folder)
    if bands is None and (opened := open_array(image_paths[0], str(image_paths[0]))):
        bands = opened.num_bands
    return SegmentationDataset(
        root=root if is_url(root) else Path(root),
        split=split,
        format=layout,
        classes=classes,
        ignore_index=ignore_index,
        names=list(files),
        image_paths=image_paths,
        mask_paths=[mask_path for _, mask_path in files.values()],
        bands=bands,
        ranges=ranges,
    )


def read_given_bands(root: Path | str, folder: Path | Shards) -> tuple[int | None, Ranges | None]:
    """Return the number of bands and their ranges that `classes.toml` gives; None for neither."""
    if isinstance(folder, Shards):
        return folder.bands
    for path in (folder / FILENAME, Path(root, FILENAME)):
        if path.is_file():
            return parse_bands(path.read_text(encoding="utf-8-sig"), path)
    return None, None


def read_given_classes(
    root: Path | str, layout: Layout, folder: Path | Shards
) -> tuple[Classes, int] | None:
    """Return the classes and ignore index that a dataset defines; None if it defines none.

    `classes.toml` in either folder defines them; data with VOC's file names has VOC's classes.

    Raises:
        DataError: `classes.toml` or a split list cannot be read.
    """
    if isinstance(folder, Shards):
        return folder.classes, folder.ignore_index
    for path in (folder / FILENAME, Path(root, FILENAME)):
        if path.is_file():
            return read_classes_file(path)
    if layout == "voc" and voc.has_voc_names(folder):
        return build_classes(VOC_NAMES), IGNORE_INDEX
    return None


def list_splits(root: Path | str, *, format: str = "auto") -> list[str]:
    """Return the names of the splits of a dataset, sorted.

    Raises:
        DataError: The folder is missing.
        LayoutError: The layout is unknown.
    """
    return _list_splits(*find_layout(root, format))


def find_split_files(root: Path | str, *, format: str = "auto") -> dict[str, SplitFiles]:
    """Return the files of every split by its name, complete or not.

    Raises:
        DataError: The folder is missing, its layout is unknown, or a split list is unreadable.
    """
    return _find_all_files(*find_layout(root, format))


def list_split_files(
    layout: Layout, folder: Path | Shards, split: str
) -> dict[str, tuple[File, File]]:
    """Return stem → (image, mask) in the order of the split.

    Args:
        layout: Layout of the dataset.
        folder: Its folder, as `find_layout` returns it.
        split: Name of the split.

    Raises:
        DataError: The split does not exist or is empty, an image or mask is missing, or a stem is
            not unique.
    """
    splits = _list_splits(layout, folder)
    if split not in splits:
        raise DataError(f"There is no split '{split}' in {folder}.{did_you_mean(split, splits)}")
    files = _find_files(layout, folder, split)
    if isinstance(folder, Shards):
        return files.pairs
    if not files.names:
        raise DataError(
            f"The split '{split}' of {folder} is empty: no images were found for it."
            f"{pairs.describe_overlooked(files.image_folder, files.mask_folder)}"
        )
    if files.same_stem:
        first, second = files.same_stem[0]
        raise DataError(
            f"Two files with the same stem in {first.parent}: {first.name} and {second.name}. "
            "An image and its mask are matched by stem: rename or remove one of them."
        )
    split_list = voc.find_split_list(folder, split)
    if twice := files.listed_twice:
        raise DataError(f"{split_list} lists {len(twice)} images twice: {shorten(twice)}.")
    incomplete = {
        place: f"{len(missing)} of the {len(files.names)} names of split '{split}' have no {kind} "
        f"in {place}: {shorten(missing)}. "
        for kind, missing, place in (
            ("image", files.without_image, files.image_folder),
            ("mask", files.without_mask, files.mask_folder),
        )
        if missing
    }
    if incomplete:
        is_voc = layout == "voc"
        listed = f" and their names in {split_list}" if is_voc else ""
        suffixes = voc.describe_suffixes(files) if is_voc else ""
        raise DataError(
            f"{''.join(incomplete.values())}Add the missing files, or remove their partners"
            f"{listed}. `atrous check {folder}` shows which files may belong together."
            f"{suffixes}{pairs.describe_overlooked(*incomplete)}"
        )
    return files.pairs


def find_layout(root: Path | str, format: str = "auto") -> tuple[Layout, Path | Shards]:
    """Return the layout of a dataset and the folder that holds it, or the shards.

    Raises:
        DataError: The folder is missing.
        LayoutError: The layout is unknown.
        StorageError: The index of shards cannot be read.
        ConfigError: `format` is unknown.
    """
    if format not in FORMATS:
        raise ConfigError(f"Unknown data format '{format}'.{did_you_mean(format, FORMATS)}")
    if has_shards(root):
        return "shards", open_shards(root)
    root = Path(root)
    if not root.is_dir():
        raise DataError(f"There is no folder {root}. Give the folder of the dataset.")
    devkit = voc.find_devkit(root)
    if devkit is not None and format != "pairs":
        return "voc", devkit
    if format != "voc" and pairs.list_pairs_splits(root):
        return "pairs", root
    if (root / UNFINISHED).exists():
        raise DataError(
            f"{root} holds unfinished shards: `atrous data shard` was interrupted. Start the same "
            "command again."
        )
    found = ", ".join(sorted(path.name for path in root.iterdir())[:10]) or "nothing"
    raise LayoutError(
        f"{root} has no layout that can be read; it holds {found}. {_LAYOUTS} Exports "
        f"of labelling tools and other folders: `atrous import {root} OUT`.",
        root,
    )


def find_owner(folder: Path) -> Path | None:
    """Return the folder of a dataset's images or masks that is or contains a folder, if any."""
    for place in (folder, *folder.parents):
        if (pairs.is_part(place) or voc.is_part(place)) and pairs.list_image_files(place):
            return place
    return None


def _fill(image: "Tensor", mask: "Tensor", ranges: Ranges | None) -> None:
    """Replace NaN in an image by the low ends of the ranges, or 0, and ignore its pixels."""
    mask[image[0].isnan()] = IGNORE_INDEX
    for index, band in enumerate(image):
        band.nan_to_num_(ranges[index][0] if ranges else 0.0)


def _measure(file: File) -> int:
    return file.size if isinstance(file, ShardFile) else file.stat().st_size


def _list_splits(layout: Layout, folder: Path | Shards) -> list[str]:
    if isinstance(folder, Shards):
        return sorted(folder.splits)
    return voc.list_voc_splits(folder) if layout == "voc" else pairs.list_pairs_splits(folder)


def _find_files(layout: Layout, folder: Path | Shards, split: str) -> SplitFiles:
    if isinstance(folder, Shards):
        return folder.find_files(split)
    return (voc.find_voc_files if layout == "voc" else pairs.find_pairs_files)(folder, split)


def _find_all_files(layout: Layout, folder: Path | Shards) -> dict[str, SplitFiles]:
    return {split: _find_files(layout, folder, split) for split in _list_splits(layout, folder)}
