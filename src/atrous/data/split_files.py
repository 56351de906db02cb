"""What lies on disk for one split, before anybody asks whether it goes together."""

import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from atrous.errors import DataError


@dataclass(frozen=True)
class SplitFiles:
    """The files of one split as they are found, paired or not.

    Attributes:
        names: Stems as `normalize_name` writes them, in the order of the split, each once; those
            without a partner too.
        images: Stem → image, for the stems that have one.
        masks: Stem → mask, for the stems that have one.
        image_folder: Where the images lie, or would.
        mask_folder: Where the masks lie, or would.
        same_stem: Two files of one folder that share a stem, so that neither can be matched.
        listed_twice: Stems that a split list names more than once.
    """

    names: list[str]
    images: dict[str, Path]
    masks: dict[str, Path]
    image_folder: Path
    mask_folder: Path
    same_stem: list[tuple[Path, Path]] = field(default_factory=list)
    listed_twice: list[str] = field(default_factory=list)

    @property
    def pairs(self) -> dict[str, tuple[Path, Path]]:
        """Stem → (image, mask) of what is whole, in the order of the split."""
        return {
            name: (self.images[name], self.masks[name])
            for name in self.names
            if name in self.images and name in self.masks
        }

    @property
    def without_mask(self) -> list[str]:
        """Stems that have no mask, in the order of the split."""
        return [name for name in self.names if name not in self.masks]

    @property
    def without_image(self) -> list[str]:
        """Stems that have no image, in the order of the split."""
        return [name for name in self.names if name not in self.images]


def normalize_name(name: str) -> str:
    """Return a file name in Unicode's form NFC: macOS and some archives take letters apart."""
    return unicodedata.normalize("NFC", name)


def check_present(split: str, paths: Iterable[Path]) -> None:
    """Raise DataError unless every listed file of a split is there: a link can point to nothing."""
    if gone := [path for path in paths if not path.exists()]:
        raise DataError(
            f"{len(gone)} files of split '{split}' are links, and what they point to is gone; the "
            f"first is {gone[0]}. Put the files back, or remove the links together with their "
            "partners and their names in split lists."
        )
