"""What is remembered of one image and its mask: about a kilobyte, whatever their size."""

from dataclasses import dataclass, field
from pathlib import Path

from atrous.classes import Color
from atrous.doctor.fit import Fit

MAX_COLORS = 256
"""A mask with more colours than this has been blurred or compressed: its table is not kept."""


@dataclass(frozen=True)
class ImageFacts:
    """One image.

    Attributes:
        hw: Height and width once it is upright.
        orientation: Of EXIF, 1 to 8; 1 is upright.
        num_values: Different colours, or levels of 16 bits, if there are at most 256 and the file
            has no loss, else None.
        is_constant: Every pixel is (nearly) as bright as the others once it is read.
        darkness: How bright an image is that is nearly black once it is read, else None.
        damage: What the decoder of a JPEG warns of, None for nothing.
        digest: Of the file's bytes.
        print: 32 bytes that are nearly the same for images that look the same.
        thumbnail: 16 × 16 grey values.
        notes: Codes of findings about the file alone: `damaged-exif`, `pages`.
    """

    hw: tuple[int, int]
    orientation: int
    num_values: int | None
    is_constant: bool
    darkness: str | None
    damage: str | None
    digest: bytes
    print: bytes
    thumbnail: bytes
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class MaskFacts:
    """One mask, of indices or of colours.

    Attributes:
        hw: Height and width.
        mode: PIL's word for the kind of pixels, such as `L`, `P` or `RGB`.
        is_jpeg: Its values are not what was saved.
        values: Index → pixels; None in a mask of colours.
        colors: Colour → pixels; None in a mask of indices, or of more than 256 colours.
        palette: Index → colour of the indices that occur, in a palette mask.
        num_ramps: Edge pixels whose value lies between those on both sides.
        num_edges: Edge pixels, of ramps and of steps.
        scattered: Values besides 0, of index or grey, that do not lie in one piece.
        digest: Of the pixels' numbers, None in a mask of colours.
        notes: As of an image.
    """

    hw: tuple[int, int]
    mode: str
    is_jpeg: bool
    values: dict[int, int] | None
    colors: dict[Color, int] | None
    palette: dict[int, Color] = field(default_factory=dict)
    num_ramps: int = 0
    num_edges: int = 0
    scattered: frozenset[int] = frozenset()
    digest: bytes | None = None
    notes: tuple[str, ...] = ()

    @property
    def grey_values(self) -> dict[int, int] | None:
        """Grey value → pixels of a mask of colours that are all grey; None in any other."""
        if self.colors is None or any(r != g or g != b for r, g, b in self.colors):
            return None
        return {color[0]: count for color, count in self.colors.items()}


@dataclass(frozen=True)
class PairFacts:
    """One image with its mask.

    Attributes:
        name: The stem they share.
        image_path, mask_path: Where they are.
        image: None where the image cannot be read.
        mask: None where the mask cannot be read.
        image_error, mask_error: Why not.
        fit: How the label edges lie on the image's edges, where both are plain to see.
    """

    name: str
    image_path: Path
    mask_path: Path
    image: ImageFacts | None
    mask: MaskFacts | None
    image_error: str | None = None
    mask_error: str | None = None
    fit: Fit | None = None
