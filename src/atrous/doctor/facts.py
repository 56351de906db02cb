"""Facts kept of an image and its mask after reading: about a kilobyte per pair."""

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from atrous.classes import Color
from atrous.doctor.fit import Fit
from atrous.images.shard_file import File

MAX_COLORS = 256
"""The colours of a mask with more than this are not kept: it is blurred or compressed."""

_MAX_MASK_COLORS = 64
_MIN_PHOTO_VALUES = 100
_MIN_FIT_DIFFERENCE = 1.5
_MIN_RAMPS = 16
_MIN_RAMP_SHARE = 0.1


@dataclass(frozen=True)
class BandFacts:
    """Facts of the bands of an image.

    Attributes:
        kind: Number of bands and type of their numbers, such as `4 bands of uint16`.
        num_bands: Number of bands.
        samples: Values of some pixels, float32 (pixels, bands).
        share_missing: Share of the pixels without data: NaN or nodata.
    """

    kind: str
    num_bands: int
    samples: npt.NDArray[np.float32]
    share_missing: float


@dataclass(frozen=True)
class ImageFacts:
    """Facts of one image.

    Attributes:
        hw: Height and width after the EXIF orientation is applied.
        orientation: EXIF orientation, 1 to 8; 1 is upright.
        num_values: Number of distinct colours, or of values of the first band. None for lossy
            formats and above 256.
        is_constant: All pixels have (nearly) the same brightness.
        digest: Hash of the file.
        image_hash: Perceptual hash, 32 bytes.
        thumbnail: 16 × 16 grey values.
        notes: Findings about this file alone, code → detail; the detail may be empty.
        bands: Facts of an image that is not 8-bit grey or RGB; else None.
    """

    hw: tuple[int, int]
    orientation: int
    num_values: int | None
    is_constant: bool
    digest: bytes
    image_hash: bytes
    thumbnail: bytes
    notes: dict[str, str] = field(default_factory=dict)
    bands: BandFacts | None = None


@dataclass(frozen=True)
class MaskFacts:
    """Facts of one mask, of class indices or of colours.

    Attributes:
        hw: Height and width.
        mode: Pillow's mode, such as `L`, `P` or `RGB`.
        is_jpeg: The file is a JPEG, so its values are not exact.
        values: Index → number of pixels; None in a mask of colours.
        colors: Colour → number of pixels; None in a mask of indices and above 256 colours.
        palette: Index → colour of the indices that occur, in a palette mask.
        num_ramps: Edge pixels whose value lies between those of both neighbours.
        num_edges: All edge pixels.
        scattered: Values other than 0 (indices or grey values) with several connected components.
        digest: Hash of the indices; None in a mask of colours.
        notes: As in `ImageFacts`.
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
    notes: dict[str, str] = field(default_factory=dict)

    @property
    def grey_values(self) -> dict[int, int] | None:
        """Grey value → number of pixels, if all colours of the mask are grey; else None."""
        if self.colors is None or any(r != g or g != b for r, g, b in self.colors):
            return None
        return {color[0]: count for color, count in self.colors.items()}

    @property
    def is_interpolated(self) -> bool:
        """Whether many edge pixels are ramps: 0 to 0.03 as drawn, 0.25 to 0.77 interpolated."""
        return self.num_ramps >= max(_MIN_RAMPS, _MIN_RAMP_SHARE * self.num_edges)


@dataclass(frozen=True)
class PairFacts:
    """Facts of an image and its mask.

    Attributes:
        name: Their common stem.
        image_path, mask_path: The files.
        image, mask: None if the file cannot be read.
        image_error, mask_error: The reason it cannot be read.
        fit: Alignment scores; None if the image or the mask has no clear edges.
    """

    name: str
    image_path: File
    mask_path: File
    image: ImageFacts | None
    mask: MaskFacts | None
    image_error: str | None = None
    mask_error: str | None = None
    fit: Fit | None = None

    @property
    def is_swapped(self) -> bool:
        """Whether the mask looks like a photograph, and the image like a mask."""
        image, mask = self.image, self.mask
        if image is None or mask is None or image.num_values is None:
            return False
        if image.num_values > _MAX_MASK_COLORS:
            return False
        return mask.colors is None if mask.values is None else len(mask.values) > _MIN_PHOTO_VALUES

    @property
    def is_turned(self) -> bool | None:
        """Whether the mask fits the image as stored, without its EXIF turn; None if unclear.

        Where the size does not decide (half turns, squares), the alignment scores do.
        """
        image, mask = self.image, self.mask
        if image is None or mask is None or image.orientation == 1:
            return False
        height, width = image.hw
        if image.orientation >= 5 and height != width:
            return mask.hw == (width, height)
        if mask.hw != image.hw:
            return False
        if self.fit is None or self.fit.stored is None:
            return None
        difference = self.fit.stored - self.fit.own
        return None if abs(difference) < _MIN_FIT_DIFFERENCE else difference > 0

    @property
    def is_mismatched(self) -> bool:
        """Whether image and mask differ in size, and EXIF does not explain it."""
        if self.image is None or self.mask is None or self.is_turned:
            return False
        return self.image.hw != self.mask.hw
