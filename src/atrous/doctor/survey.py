"""All that is known of a data set once its files have been read: what the checks look at."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from atrous.classes import IGNORE_INDEX, Classes, build_classes
from atrous.data import MaskStatistics
from atrous.data.dataset import Layout
from atrous.data.split_files import SplitFiles
from atrous.doctor.facts import MaskFacts, PairFacts
from atrous.doctor.findings import FoundFile
from atrous.doctor.object_ids import are_object_ids


@dataclass(frozen=True)
class Survey:
    """A data set and the facts of its files.

    Attributes:
        root: Folder as the user gave it.
        folder: Where the layout begins.
        layout: `voc` or `pairs`.
        splits: What lies on disk for each split.
        matches: Split → stem → files that belong together though their names differ.
        pairs: Facts, each pair once, however many splits name it.
        members: Split → indices into `pairs`.
        given: Classes of the layout or of `classes.toml`; None where masks alone tell.
        has_table: The colours of the classes were chosen for them, not filled in.
        ignore_index: Mask value of ignored pixels.
        crop_px: Side of the training crop.
        train_split, val_split: What training would use, whether it is there or not.
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
        """The split to train on, and others by their names: trainaug, training; not trainval."""
        return [
            split
            for split in self.splits
            if split == self.train_split
            or (split.startswith("train") and "val" not in split and split != self.val_split)
        ]

    @property
    def held_out_splits(self) -> list[str]:
        """The split to validate on, and others by their names: validation, dev, test."""
        return [
            split
            for split in self.splits
            if split == self.val_split
            or (split.startswith(("val", "dev", "test", "eval")) and split != self.train_split)
        ]

    @cached_property
    def classes(self) -> Classes:
        """The classes as training would have them; numbered up to the largest value if not given.

        Without a single usable mask there is one class, so that a report can be written.
        """
        if self.given is not None:
            return self.given
        largest = max(
            (max(self.list_classes(mask), default=0) for _, mask in self.index_masks), default=0
        )
        return build_classes([str(index) for index in range(largest + 1)])

    @cached_property
    def index_masks(self) -> list[tuple[int, MaskFacts]]:
        """(pair, mask) of the masks that hold indices without loss."""
        return [
            (index, pair.mask)
            for index, pair in enumerate(self.pairs)
            if pair.mask is not None and pair.mask.values is not None and not pair.mask.is_jpeg
        ]

    @cached_property
    def grey_masks(self) -> list[tuple[int, MaskFacts]]:
        """(pair, mask) of the masks of colours without loss whose colours are all grey."""
        return [
            (index, pair.mask)
            for index, pair in enumerate(self.pairs)
            if pair.mask is not None and pair.mask.grey_values and not pair.mask.is_jpeg
        ]

    @cached_property
    def id_masks(self) -> list[int]:
        """Pairs whose masks number objects, not classes; see `object_ids`."""
        masks = {
            index: (set(values) - {0, self.ignore_index}, mask.scattered)
            for index, mask in [*self.index_masks, *self.grey_masks]
            if (values := mask.values or mask.grey_values)
        }
        return sorted(masks) if are_object_ids(list(masks.values())) else []

    def list_classes(self, mask: MaskFacts) -> list[int]:
        """Return the values of a mask that can be class indices: not ignored, not above 254."""
        return [v for v in mask.values or {} if 0 <= v < IGNORE_INDEX and v != self.ignore_index]

    def list_wrong_values(self, mask: MaskFacts) -> list[int]:
        """Return the sorted values of a mask that are neither a class nor ignored."""
        last = len(self.classes) - 1
        return sorted(v for v in mask.values or {} if not 0 <= v <= last and v != self.ignore_index)

    def list_members(self, splits: Iterable[str]) -> list[int]:
        """Return the pairs of some splits, each once, in order."""
        return sorted({index for split in splits for index in self.members[split]})

    def count_pixels(self, splits: Iterable[str]) -> MaskStatistics:
        """Count the pixels of each class over the masks of some splits."""
        num_classes = len(self.classes)
        chosen = set(self.list_members(splits))
        pixels, where_present = np.zeros((2, num_classes), np.int64)
        num_ignored = 0
        for index, mask in self.index_masks:
            if index in chosen:
                counts = self._count_classes(mask)
                num_ignored += (mask.values or {}).get(self.ignore_index, 0)
                for value, count in counts.items():
                    pixels[value] += count
                    where_present[value] += counts.total()
        return MaskStatistics(pixels.tolist(), where_present.tolist(), num_ignored)

    def _count_classes(self, mask: MaskFacts) -> Counter[int]:
        known = {value for value in self.list_classes(mask) if value < len(self.classes)}
        return Counter({value: n for value, n in (mask.values or {}).items() if value in known})

    def relative(self, path: Path) -> str:
        """Return a path as the report writes it."""
        return path.relative_to(self.root).as_posix()

    def found_mask(self, index: int, detail: str = "", other: int | None = None) -> FoundFile:
        """Name the mask of a pair, and the pair that it resembles."""
        return FoundFile(self.relative(self.pairs[index].mask_path), detail, index, other)

    def found_image(self, index: int, detail: str = "", other: int | None = None) -> FoundFile:
        """Name the image of a pair, and the pair that it resembles."""
        return FoundFile(self.relative(self.pairs[index].image_path), detail, index, other)
