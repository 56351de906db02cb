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
    """The files of one split, paired or not."""

    names: list[str]  # unique, normalized, in the order of the split, with a partner or without
    images: Mapping[str, "File"]  # by stem
    masks: Mapping[str, "File"]  # by stem
    image_folder: Path  # may not exist
    mask_folder: Path  # may not exist
    same_stem: list[tuple[Path, Path]] = field(default_factory=list)  # files in one folder
    listed_twice: list[str] = field(default_factory=list)  # in the split list

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
