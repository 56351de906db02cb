"""The facts of a whole dataset, from which the checks derive their findings."""

from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from atrous.bands import Ranges
from atrous.classes import (
    IGNORE_INDEX,
    VOC_NAMES,
    Classes,
    ClassSelection,
    build_classes,
    voc_color,
)
from atrous.data import MaskStatistics
from atrous.data.classes_file import ClassList
from atrous.data.layouts import Layout
from atrous.data.object_ids import are_object_ids
from atrous.data.palettes import BLACK, ColorTable, build_table
from atrous.data.shards import Shards
from atrous.data.split_files import SplitFiles
from atrous.doctor.facts import ImageFacts, MaskFacts, PairFacts
from atrous.doctor.findings import FoundFile
from atrous.images.remote import is_url
from atrous.images.shard_file import File
from atrous.recipe import DataRecipe


@dataclass(frozen=True)
class Survey:
    """A dataset and the facts of its files."""

    data: DataRecipe  # settings of training
    folder: Path | Shards  # in which the layout begins
    layout: Layout
    splits: dict[str, SplitFiles]  # split → its files
    matches: dict[str, dict[str, tuple[Path, Path]]]  # by split and stem, if names differ
    pairs: list[PairFacts]  # each once, even if several splits contain it
    members: dict[str, list[int]]  # split → indices into `pairs`
    given: Classes | None  # of `names`, `classes.toml` or the layout
    ignore_index: int  # mask value of ignored pixels
    names: ClassList | None = None  # what values or colours of masks mean, if stated by the user
    bands: int | None = None  # number of bands in `classes.toml`
    ranges: Ranges | None = None  # their ranges in `classes.toml`

    @property
    def root(self) -> Path | str:
        """Folder or URL as the user gave it."""
        return self.data.root if is_url(self.data.root) else Path(self.data.root)

    @property
    def color_table(self) -> ColorTable | None:
        """Colours of the given classes, unless they are generated; black and VOC's void ignored."""
        given = self.given
        if given is None or (
            self.names is None and given.names != VOC_NAMES and given == build_classes(given.names)
        ):
            return None
        return build_table("the class list", given, (BLACK, voc_color(IGNORE_INDEX)))

    @property
    def train_splits(self) -> list[str]:
        """The training split, and splits named `train…`, except those with `val` in the name."""
        chosen, other = self.data.train_split, self.data.val_split
        named = {s for s in self.splits if s.startswith("train") and "val" not in s}
        return [s for s in self.splits if s == chosen or s in named - {other}]

    @property
    def held_out_splits(self) -> list[str]:
        """The validation split, and splits named `val…`, `dev…`, `test…` or `eval…`."""
        chosen, other = self.data.val_split, self.data.train_split
        named = {s for s in self.splits if s.startswith(("val", "dev", "test", "eval"))}
        return [s for s in self.splits if s == chosen or s in named - {other}]

    @cached_property
    def classes(self) -> Classes:
        """The given classes; otherwise numbers up to the largest mask value, at least one class."""
        if self.given is not None:
            return self.given
        values = set().union(*(mask.values or {} for _, mask in self.index_masks))
        values -= {self.ignore_index}
        return _number(max((v for v in values if 0 <= v < IGNORE_INDEX), default=0) + 1)

    @cached_property
    def class_indices(self) -> dict[int, int]:
        """Mask value → index in `classes`."""
        values = range(len(self.classes))
        if self.names is not None and self.names.values is not None:
            return dict(zip(self.names.values, values, strict=True))
        return {value: value for value in values}

    @cached_property
    def learned(self) -> Classes:
        """The classes that training selects, in the order of the model."""
        return self.data.class_selection.apply(self.classes)[0]

    def describe_selection(self) -> str:
        """Return a text on the classes that training selects; '' if it takes all as they are."""
        selection = self.data.class_selection
        return selection.describe(self.learned) if selection != ClassSelection() else ""

    @cached_property
    def class_pixels(self) -> list[tuple[int, Counter[int]]]:
        """(pair index, index in `learned` or 255 → pixels) of the lossless masks of indices."""
        _, selected = self.data.class_selection.apply(self.classes)
        table = {value: selected[index] for value, index in self.class_indices.items()}
        table[self.ignore_index] = IGNORE_INDEX
        counted = [(pair, Counter[int]()) for pair, _ in self.index_masks]
        for (_, pixels), (_, mask) in zip(counted, self.index_masks, strict=True):
            for value in table.keys() & (mask.values or {}).keys():
                pixels[table[value]] += (mask.values or {})[value]
        return counted

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
    def id_masks(self) -> set[int]:
        """Pairs with a mask of object ids instead of classes; see `object_ids`.

        Empty if `classes.toml` gives every value a name that is not its number.
        """
        masks = {
            i: (values.keys() - {0, self.ignore_index}, mask.scattered)
            for i, values, mask in self._value_masks
        }
        used = set().union(*(values for values, _ in masks.values()))
        is_named = self.given is not None and used <= self.class_indices.keys()
        if is_named and self.given not in (build_classes(VOC_NAMES), _number(len(self.classes))):
            return set()
        return set(masks) if are_object_ids(list(masks.values())) else set()

    @cached_property
    def grey_masks(self) -> Collection[int]:
        """Pairs with a mask of colours, if all of these are grey and not those of the classes."""
        masks = [(i, mask.grey_values) for i, mask in self.color_masks if mask.colors is not None]
        table, greys = self.color_table, {v for _, values in masks for v in values or {}}
        is_listed = table is not None and all((v, v, v) in table.indices for v in greys)
        return [] if is_listed or any(values is None for _, values in masks) else dict(masks)

    @property
    def _value_masks(self) -> list[tuple[int, dict[int, int], MaskFacts]]:
        """(pair index, value → pixels, mask) of the lossless masks of indices or grey colours."""
        grey = [(i, mask) for i, mask in self.color_masks if mask.grey_values]
        masks = [*self.index_masks, *grey]
        return [(i, mask.values or mask.grey_values or {}, mask) for i, mask in masks]

    def list_values(self) -> list[int]:
        """Return the sorted values of all masks of indices or grey colours that are not ignored.

        Masks that are interpolated or exchanged with their images do not count.
        """
        counted = (
            values
            for i, values, mask in self._value_masks
            if (mask.values is not None or i in self.grey_masks)
            and not (mask.is_interpolated or self.pairs[i].is_swapped)
        )
        return sorted(set().union(*counted) - {self.ignore_index})

    def is_ignored(self, mask: MaskFacts) -> bool:
        """Return whether all pixels of a mask of indices are ignored."""
        return mask.values is not None and mask.values.keys() <= {self.ignore_index}

    def list_members(self, splits: Iterable[str]) -> set[int]:
        """Return the pair indices of some splits."""
        return {index for split in splits for index in self.members[split]}

    def count_pixels(self, splits: Iterable[str]) -> MaskStatistics:
        """Count the pixels of each learned class over the masks of some splits."""
        chosen = self.list_members(splits)
        pixels, where_present = Counter[int](), Counter[int]()
        for counts in (counts for index, counts in self.class_pixels if index in chosen):
            num_labelled = sum(counts.values()) - counts.get(IGNORE_INDEX, 0)
            pixels.update(counts)
            where_present.update(dict.fromkeys(counts, num_labelled))
        labels = range(len(self.learned))
        return MaskStatistics(
            [pixels[i] for i in labels], [where_present[i] for i in labels], pixels[IGNORE_INDEX]
        )

    def relative(self, path: File) -> str:
        """Return a path relative to the root, with forward slashes; whole if it lies outside."""
        if isinstance(path, Path) and not path.is_relative_to(self.root):
            return path.as_posix()
        return path.relative_to(self.root).as_posix()

    def found_mask(self, index: int, detail: str = "", other: int | None = None) -> FoundFile:
        """Return the mask of a pair as a file of a finding; see `found_image`."""
        if other is not None:
            detail += f" {self.relative(self.pairs[other].mask_path)}"
        return FoundFile(self.relative(self.pairs[index].mask_path), detail, index, other)

    def found_image(self, index: int, detail: str = "", other: int | None = None) -> FoundFile:
        """Return the image of a pair as a file of a finding; `other` follows the detail."""
        if other is not None:
            detail += f" {self.relative(self.pairs[other].image_path)}"
        return FoundFile(self.relative(self.pairs[index].image_path), detail, index, other)


def _number(num_classes: int) -> Classes:
    return build_classes([str(index) for index in range(num_classes)])
