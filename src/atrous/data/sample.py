"""Reading images as RGB and masks as integers."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from PIL import Image

from atrous.data.image_file import MAX_PIXELS, decode_image, warn
from atrous.errors import DataError

if TYPE_CHECKING:
    from torch import Tensor

_MAX_BLACK = 15
_STRIP_PIXELS = 2**24


@dataclass
class Sample:
    """An image with its mask.

    Attributes:
        image: uint8 (3, H, W), RGB.
        mask: uint8 (H, W), class indices; ignored pixels are `IGNORE_INDEX` (255).
        name: File stem, unique within a split.
    """

    image: "Tensor"
    mask: "Tensor"
    name: str


def read_image(
    source: Path | BinaryIO,
    *,
    name: str | None = None,
    max_pixels: int = MAX_PIXELS,
    formats: tuple[str, ...] | None = None,
    page: int | None = None,
    warn: Callable[[str], object] = warn,
) -> "Tensor":
    """Read an image file as RGB and apply its EXIF orientation.

    Grey, palette and CMYK images are converted, alpha is dropped, and 16-bit channels keep their
    high byte. A damaged EXIF block is ignored with a warning.

    Args:
        source: Path or seekable file object.
        name: Name in messages; by default the path.
        max_pixels: Largest number of pixels; checked before decoding.
        formats: Pillow's names of the formats that are tried; None for all.
        page: One of `list_pages`; by default the first, with a warning if there are more.
        warn: Called with the text of each warning; by default issues an `AtrousWarning`.

    Shapes:
        returns: uint8 (3, H, W)

    Raises:
        DataError: The file is missing, truncated, no image, too large, or holds floats.
    """
    import torch  # here, since `atrous check` reads files without it

    path = name or str(source)
    decoded = decode_image(source, path, max_pixels=max_pixels, formats=formats, page=page)
    for text in decoded.list_warnings(path):
        warn(text)
    image = reduce_to_8_bits(decoded.image, path)
    # Channels last in memory, on which uint8 resizing is fastest.
    pixels = np.empty((image.height, image.width, 3), np.uint8)
    num_rows = max(1, _STRIP_PIXELS // max(1, image.width))
    for top in range(0, image.height, num_rows):  # strips save two copies of the whole image
        bottom = min(top + num_rows, image.height)
        strip = image.crop((0, top, image.width, bottom))
        pixels[top:bottom] = np.asarray(strip.convert("RGB"))
    return torch.from_numpy(pixels).permute(2, 0, 1)


def reduce_to_8_bits(image: Image.Image, path: Path | str) -> Image.Image:
    """Return an image with 8 bits per channel; 16-bit channels keep their high byte.

    Raises:
        DataError: The image holds floating point numbers.
    """
    if image.mode.startswith("I"):
        grey = np.clip(np.asarray(image).astype(np.int64) >> 8, 0, 255).astype(np.uint8)
        return Image.fromarray(grey)
    if image.mode == "F":
        raise DataError(
            f"The image {path} holds floating point numbers, whose range is unknown. "
            "Save it with 8 or 16 bits per channel."
        )
    return image


def is_nearly_black(pixels: "np.ndarray | Tensor") -> bool:
    """Return whether all uint8 pixels are below 16, as of 12-bit data in a 16-bit file."""
    return int(pixels.max()) <= _MAX_BLACK


def read_indices(path: Path) -> np.ndarray:
    """Read the values of a mask file, unchanged, as a writable integer array (H, W).

    Raises:
        DataError: The file cannot be read, is RGB or JPEG, or holds floating point numbers.
    """
    decoded = decode_image(path)
    for text in decoded.list_warnings(path):
        warn(text)
    image = decoded.image
    if decoded.format in ("JPEG", "MPO"):
        raise DataError(
            f"The mask {path} is a JPEG, which changes pixel values, so its class indices are not "
            "reliable. Export the masks again as PNG."
        )
    if image.mode == "F":
        raise DataError(describe_float_mask(path))
    if not holds_indices(image):
        raise DataError(
            f"RGB mask where indices were expected: {path} has mode {image.mode}. A mask holds "
            "one class index per pixel (0, 1, 2, …) as a grey or palette PNG. "
            "Convert it: give each colour the index of its class; `atrous check DATA --fix DIR` "
            "does so where the colours are known."
        )
    indices = np.array(image)
    return indices.astype(np.uint8) if indices.dtype == bool else indices


def holds_indices(image: Image.Image) -> bool:
    """Return whether an image has one whole number per pixel."""
    return image.mode in ("P", "L", "1", "I") or image.mode.startswith("I;16")


def read_colors(image: Image.Image) -> np.ndarray:
    """Return the colour of each pixel as a number, see `palettes.pack_color`: int64 (H, W)."""
    rgb = np.asarray(image.convert("RGB")).astype(np.int64)
    return rgb[..., 0] << 16 | rgb[..., 1] << 8 | rgb[..., 2]


def describe_float_mask(path: Path) -> str:
    """Return the error message for a mask of floating point numbers."""
    return (
        f"The mask {path} holds floating point numbers where class indices were expected. Save "
        "it as whole numbers of 8 bits, for example with NumPy's `mask.astype('uint8')`, as PNG."
    )


def check_same_size(
    image_hw: tuple[int, int], mask_hw: tuple[int, int], image_path: Path, mask_path: Path
) -> None:
    """Raise DataError unless an image and its mask have the same size."""
    if image_hw != mask_hw:
        if image_hw == mask_hw[::-1] and decode_image(image_path).orientation >= 5:
            raise DataError(
                f"The image {image_path} is turned upright by its EXIF orientation, but its mask "
                f"{mask_path} was drawn on the image as stored. Turn both upright and remove the "
                "EXIF orientation; `atrous check DATA --fix DIR` does so."
            )
        raise DataError(
            f"The image {image_path} is {image_hw[1]} × {image_hw[0]} pixels (width × height), "
            f"but its mask {mask_path} is {mask_hw[1]} × {mask_hw[0]}. Make the mask from this "
            "image, or resize it with nearest neighbour interpolation."
        )


def shorten(items: Sequence[Any], max_items: int = 10) -> str:
    """Return the first items separated by commas, with `…` if some are left out."""
    return ", ".join(map(str, items[:max_items])) + (", …" if len(items) > max_items else "")
