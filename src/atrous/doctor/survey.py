"""The facts of a whole dataset, from which the checks derive their findings."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from atrous.classes import IGNORE_INDEX, Classes, build_classes
from atrous.data import MaskStatistics
from atrous.data.dataset import Layout
from atrous.data.object_ids import are_object_ids
from atrous.data.split_files import SplitFiles
from atrous.doctor.facts import ImageFacts, MaskFacts, PairFacts
from atrous.doctor.findings import FoundFile


@dataclass(frozen=True)
class Survey:
    """A dataset and the facts of its files.

    Attributes:
        root: Folder as the user gave it.
        folder: Folder in which the layout begins.
        layout: `voc` or `pairs`.
        splits: Split → its files.
        matches: Split → stem → (image, mask) that belong together although their names differ.
        pairs: Facts of each pair, once, even if several splits contain it.
        members: Split → indices into `pairs`.
        given: Classes of the layout or of `classes.toml`; None if there are none.
        has_table: Whether the colours of `given` are the dataset's own, not generated.
        ignore_index: Mask value of ignored pixels.
        crop_px: Side of the training crop.
        train_split, val_split: Splits that training uses, whether they exist or not.
    """

    root: Path
    folder: Path
    layout: Layout
    splits: dict[str, SplitFiles]
    matches: dict[str, dict[str, tuple[Path, Path]]]
    pairs: list[PairFacts]
    members: dict[str, list[int]]
    given: Classes | None
    has_table: bool
    ignore_index: int
    crop_px: int
    train_split: str
    val_split: str

    @property
    def train_splits(self) -> list[str]:
        """The training split, and splits named `train…`, except those with `val` in the name."""
        return [
            split
            for split in self.splits
            if split == self.train_split
            or (split.startswith("train") and "val" not in split and split != self.val_split)
        ]

    @property
    def held_out_splits(self) -> list[str]:
        """The validation split, and splits named `val…`, `dev…`, `test…` or `eval…`."""
        return [
            split
            for split in self.splits
            if split == self.val_split
            or (split.startswith(("val", "dev", "test", "eval")) and split != self.train_split)
        ]

    @cached_property
    def classes(self) -> Classes:
        """The given classes; otherwise numbers up to the largest mask value, at least one class."""
        if self.given is not None:
            return self.given
        values = (value for _, mask in self.index_masks for value in self.list_classes(mask))
        return build_classes([str(index) for index in range(max(values, default=0) + 1)])

    @cached_property
    def images(self) -> list[tuple[int, ImageFacts]]:
        """(pair index, image) of all images that can be read."""
        return [(i, pair.image) for i, pair in enumerate(self.pairs) if pair.image is not None]

    @cached_property
    def masks(self) -> list[tuple[int, MaskFacts]]:
        """(pair index, mask) of all masks that can be read."""
        return [(i, pair.mask) for i, pair in enumerate(self.pairs) if pair.mask is not None]

    @cached_property
    def index_masks(self) -> list[tuple[int, MaskFacts]]:
        """(pair index, mask) of the lossless masks of indices."""
        return [(i, mask) for i, mask in self.masks if mask.values is not None and not mask.is_jpeg]

    @cached_property
    def color_masks(self) -> list[tuple[int, MaskFacts]]:
        """(pair index, mask) of the lossless masks of colours."""
        return [
            (i, mask)
            for i, mask in self.masks
            if mask.values is None and not mask.is_jpeg and not self.pairs[i].is_swapped
        ]

    @cached_property
    def binary_masks(self) -> set[int]:
        """Pairs with a mask, of indices or grey colours, in which 255 means the foreground.

        That is so if all masks hold no values but 0, 1, 255 and another ignore index, at least one
        holds both 0 and 255, and none holds both 1 and 255.
        """
        ignored = {self.ignore_index} - {0, 1, IGNORE_INDEX}
        kinds = {i: values.keys() - ignored for i, values, _ in self._value_masks}
        is_binary = all(
            values <= {0, 1, IGNORE_INDEX} and not {1, IGNORE_INDEX} <= values
            for values in kinds.values()
        )
        if not is_binary or {0, IGNORE_INDEX} not in kinds.values():
            return set()
        return {i for i, values in kinds.items() if IGNORE_INDEX in values}

    @cached_property
    def id_masks(self) -> list[int]:
        """Pairs with a mask of object ids instead of classes; see `object_ids`."""
        masks = {
            i: (values.keys() - {0, self.ignore_index}, mask.scattered)
            for i, values, mask in self._value_masks
            if values
        }
        return sorted(masks) if are_object_ids(list(masks.values())) else []

    @property
    def _value_masks(self) -> list[tuple[int, dict[int, int], MaskFacts]]:
        """(pair index, value → pixels, mask) of the lossless masks of indices or grey colours."""
        grey = [(i, mask) for i, mask in self.color_masks if mask.grey_values]
        masks = [*self.index_masks, *grey]
        return [(i, mask.values or mask.grey_values or {}, mask) for i, mask in masks]

    def list_classes(self, mask: MaskFacts) -> list[int]:
        """Return the values of a mask that can be class indices: 0 to 254, not ignored."""
        return [v for v in mask.values or {} if 0 <= v < IGNORE_INDEX and v != self.ignore_index]

    def list_wrong_values(self, mask: MaskFacts) -> list[int]:
        """Return the sorted values of a mask that are neither a class nor ignored."""
        last = len(self.classes) - 1
        return sorted(v for v in mask.values or {} if not 0 <= v <= last and v != self.ignore_index)

    def list_members(self, splits: Iterable[str]) -> list[int]:
        """Return the sorted pair indices of some splits, without repetition."""
        return sorted({index for split in splits for index in self.members[split]})

    def count_pixels(self, splits: Iterable[str]) -> MaskStatistics:
        """Count the pixels of each class over the masks of some splits."""
        chosen = set(self.list_members(splits))
        pixels, where_present = np.zeros((2, len(self.classes)), np.int64)
        num_ignored = 0
        for index, mask in self.index_masks:
            if index not in chosen or mask.values is None:
                continue
            known = [v for v in self.list_classes(mask) if v < len(self.classes)]
            counts = np.array([mask.values[value] for value in known], np.int64)
            pixels[known] += counts
            where_present[known] += counts.sum()
            num_ignored += mask.values.get(self.ignore_index, 0)
        return MaskStatistics(pixels.tolist(), where_present.tolist(), num_ignored)

    def relative(self, path: Path) -> str:
        """Return a path relative to the root, with forward slashes; whole if it lies outside."""
        inside = path.relative_to(self.root) if path.is_relative_to(self.root) else path
        return inside.as_posix()

    def found_mask(self, index: int, detail: str = "", other: int | None = None) -> FoundFile:
        """Return the mask of a pair as a file of a finding; see `found_image`."""
        if other is not None:
            detail += f" {self.relative(self.pairs[other].mask_path)}"
        return FoundFile(self.relative(self.pairs[index].mask_path), detail, index, other)

    def found_image(self, index: int, detail: str = "", other: int | None = None) -> FoundFile:
        """Return the image of a pair as a file of a finding.

        Args:
            index: Index of the pair.
            detail: What was found in the file.
            other: Index of the pair that it resembles, whose path is appended to the detail.
        """
        if other is not None:
            detail += f" {self.relative(self.pairs[other].image_path)}"
        return FoundFile(self.relative(self.pairs[index].image_path), detail, index, other)
