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
    """Facts of the bands of an image."""

    kind: str  # number of bands and type of their numbers, such as `4 bands of uint16`
    samples: npt.NDArray[np.float32]  # values of some pixels, float32 (pixels, bands)
    share_missing: float  # share of the pixels without data: NaN or nodata


@dataclass(frozen=True)
class ImageFacts:
    """Facts of one image."""

    hw: tuple[int, int]  # after the EXIF orientation is applied
    orientation: int  # of EXIF, 1 to 8; 1 is upright
    num_values: int | None  # colours, or values of the first band; None if lossy or above 256
    is_constant: bool  # all pixels have (nearly) the same brightness
    digest: bytes  # of the file
    image_hash: bytes  # perceptual, 32 bytes
    thumbnail: bytes  # 16 × 16 grey values
    notes: dict[str, str] = field(default_factory=dict)  # findings about this file, code → detail
    bands: BandFacts | None = None  # None for 8-bit grey or RGB


@dataclass(frozen=True)
class MaskFacts:
    """Facts of one mask, of class indices or of colours."""

    hw: tuple[int, int]
    mode: str  # of Pillow, such as `L`, `P` or `RGB`
    is_jpeg: bool  # the values are not exact
    values: dict[int, int] | None = None  # index → pixels; None in a mask of colours
    colors: dict[Color, int] | None = None  # colour → pixels; None for indices, or above 256
    palette: dict[int, Color] = field(default_factory=dict)  # of the indices that occur
    num_ramps: int = 0  # edge pixels with a value between those of both neighbours
    num_edges: int = 0  # all edge pixels
    scattered: frozenset[int] = frozenset()  # values but 0 in several components
    digest: bytes | None = None  # of the indices
    notes: dict[str, str] = field(default_factory=dict)  # as in `ImageFacts`

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
    """Facts of an image and its mask."""

    name: str  # the common stem
    image_path: File
    mask_path: File
    image: ImageFacts | None  # None if it cannot be read
    mask: MaskFacts | None  # None if it cannot be read
    image_error: str | None = None  # why it cannot be read
    mask_error: str | None = None  # why it cannot be read
    fit: Fit | None = None  # None if the image or the mask has no clear edges

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
