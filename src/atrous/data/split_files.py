"""What lies on disk for one split, before anybody asks whether it goes together."""

from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class SplitFiles:
    """The files of one split as they are found, paired or not.

    Attributes:
        names: Stems in the order of the split, each once; those without a partner too.
        images: Stem → picture, for the stems that have one.
        masks: Stem → mask, for the stems that have one.
        image_folder: Where the pictures lie, or would.
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
        """Stem → (picture, mask) of what is whole, in the order of the split."""
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
        """Stems that have no picture, in the order of the split."""
        return [name for name in self.names if name not in self.images]
