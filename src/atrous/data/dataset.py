"""The images and masks of one split of a dataset."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np

from atrous.bands import Ranges
from atrous.classes import IGNORE_INDEX, Classes, ClassSelection
from atrous.data.layouts import (
    Layout,
    find_all_files,
    find_layout,
    list_split_files,
    read_given_bands,
    read_given_classes,
)
from atrous.data.mask_values import number_classes, read_mask
from atrous.errors import DataError
from atrous.images.arrays import open_array
from atrous.images.reading import check_same_size, read_image
from atrous.images.remote import is_url
from atrous.images.shard_file import File, ShardFile

if TYPE_CHECKING:
    from torch import Tensor

    from atrous.data.sample_cache import SampleCache


@dataclass
class Sample:
    """An image with its mask.

    Attributes:
        image: uint8 (3, H, W), RGB; or float32 (bands, H, W), in the units of the file.
        mask: uint8 (H, W), class indices; ignored pixels are `IGNORE_INDEX` (255).
        name: File stem, unique within a split.
    """

    image: "Tensor"
    mask: "Tensor"
    name: str


@dataclass(frozen=True)
class SegmentationDataset:
    """The files of one split and the meaning of their mask values.

    Attributes:
        root: Folder or URL of the dataset as it was given.
        classes: Names and colours in the order of the mask values.
        ignore_index: Mask value of ignored pixels in the files (in memory they are 255).
        names: Stems, in the order of the split, as the paths.
        selection: For each class of the masks, its index in `classes` or `IGNORE_INDEX`; None if
            they are the same.
        bands: Number of bands; None for 8-bit RGB, to which grey images are converted.
        ranges: Value range of each band, if it is known; it is used to fill pixels without data.
        cache: Cache of the samples, which `load` uses and fills.
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
    cache: "SampleCache | None" = None

    def __len__(self) -> int:
        return len(self.names)

    def load(self, index: int) -> Sample:
        """Read the image and the mask with this index, at the size of the cache if there is one.

        Pixels without data have the lowest value of each band, and are ignored in the mask.

        Raises:
            DataError: A file cannot be read, or the two differ in size.
            ConfigError: The cache cannot be written.
        """
        paths = self.image_paths[index], self.mask_paths[index]
        if self.cache is None:
            pair = self._read(*paths)
        else:
            pair = self.cache.load(*paths) or self.cache.save(*paths, *self._read(*paths))
        return Sample(*pair, self.names[index])

    def _read(self, image_path: File, mask_path: File) -> "tuple[Tensor, Tensor]":
        image = read_image(image_path, bands=self.bands)
        num_classes, ignore_index = self.num_mask_classes, self.ignore_index
        mask = read_mask(mask_path, num_classes=num_classes, ignore_index=ignore_index)
        check_same_size(
            (image.shape[1], image.shape[2]), (mask.shape[0], mask.shape[1]), image_path, mask_path
        )
        if self.selection is not None:
            mask = mask.new_tensor(self.select_indices(mask.numpy()))
        if self.bands is not None:
            mask[image[0].isnan()] = IGNORE_INDEX
            for number, band in enumerate(image):
                band.nan_to_num_(self.ranges[number][0] if self.ranges else 0.0)
        return image, mask

    def read_as(self, ranges: Ranges | None) -> Self:
        """Return the same files with the bands of a model; None for 8-bit RGB."""
        return replace(self, bands=None if ranges is None else len(ranges), ranges=ranges)

    def take(self, indices: Sequence[int]) -> Self:
        """Return the dataset with only the images of these indices."""
        names, images, masks = self.names, self.image_paths, self.mask_paths
        return replace(
            self,
            names=[names[index] for index in indices],
            image_paths=[images[index] for index in indices],
            mask_paths=[masks[index] for index in indices],
        )

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
        for name, *paths in zip(self.names, self.image_paths, self.mask_paths, strict=True):
            image_bytes, mask_bytes = map(_measure, paths)
            line = f"{name} {image_bytes} {mask_bytes}\n"
            digest.update(line.encode(errors="surrogateescape"))
        return digest.hexdigest()


def open_dataset(
    root: Path | str, split: str, *, format: str = "auto", ignore_index: int | None = None
) -> SegmentationDataset:
    """List the files of one split and check that every image has a mask and the reverse.

    Args:
        root: Folder of the dataset: a VOC devkit (see `voc.find_devkit`), paired folders or shards;
            or the URL of shards.
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
        all_files = find_all_files(layout, folder).values()
        found = {path for files in all_files for path in files.masks.values()}
        masks = sorted(path for path in found if isinstance(path, Path))
        classes = number_classes(masks, ignore_index)
    image_paths, mask_paths = map(list, zip(*files.values(), strict=True))
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
        mask_paths=mask_paths,
        bands=bands,
        ranges=ranges,
    )


def _measure(file: File) -> int:
    return file.size if isinstance(file, ShardFile) else file.stat().st_size
