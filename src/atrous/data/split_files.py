"""The files of one split as they are found on disk, complete or not."""

import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from atrous.images.shard_file import File


@dataclass(frozen=True)
class SplitFiles:
    """The files of one split, paired or not.

    Attributes:
        names: Unique stems, written as by `normalize_name`, in the order of the split; those
            without a partner are included.
        images: Image by stem, for the stems that have one.
        masks: Mask by stem, for the stems that have one.
        image_folder: Folder of the images; it may not exist.
        mask_folder: Folder of the masks; it may not exist.
        same_stem: Pairs of files in one folder with the same stem.
        listed_twice: Stems that occur more than once in the split list.
    """

    names: list[str]
    images: Mapping[str, "File"]
    masks: Mapping[str, "File"]
    image_folder: Path
    mask_folder: Path
    same_stem: list[tuple[Path, Path]] = field(default_factory=list)
    listed_twice: list[str] = field(default_factory=list)

    @property
    def pairs(self) -> dict[str, tuple["File", "File"]]:
        """Stem → (image, mask) of the complete pairs, in the order of the split."""
        return {
            name: (self.images[name], self.masks[name])
            for name in self.names
            if name in self.images and name in self.masks
        }

    @property
    def without_mask(self) -> list[str]:
        """Stems without a mask, in the order of the split."""
        return [name for name in self.names if name not in self.masks]

    @property
    def without_image(self) -> list[str]:
        """Stems without an image, in the order of the split."""
        return [name for name in self.names if name not in self.images]


def normalize_name(name: str) -> str:
    """Return a file name in Unicode form NFC; macOS and some archives decompose letters."""
    return unicodedata.normalize("NFC", name)
