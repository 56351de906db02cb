"""Reading a picture and its mask from disk, with errors that name the file."""

import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from PIL import Image, UnidentifiedImageError

from atrous.classes import VOID
from atrous.errors import DataError

if TYPE_CHECKING:
    from torch import Tensor

MAX_PIXELS = 500_000_000
"""Pictures of more pixels are refused unless asked for: a small file can claim to be huge."""

_STRIP_PIXELS = 2**24
_ORIENTATION = 0x0112
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@dataclass
class Sample:
    """A picture with its mask.

    Attributes:
        image: uint8 (3, H, W), RGB.
        mask: uint8 (H, W), class indices; `VOID` (255) where there is no class.
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
) -> "Tensor":
    """Read any usual picture file as RGB, turned upright as its EXIF orientation says.

    Grey and palette pictures become RGB, CMYK is converted, alpha is dropped, and of 16-bit
    channels the high byte is kept. Of several pictures in one file, the first is taken.

    Args:
        source: Path, or a file object that can seek.
        name: What to call it in messages; by default, its path.
        max_pixels: A picture of more pixels is refused before it is decoded.
        formats: The only ones that are tried, as Pillow calls them; None for all.

    Shapes:
        returns: uint8 (3, H, W)

    Raises:
        DataError: The file is missing, truncated, no picture, too large, or of floating point.
    """
    import torch  # here, since `atrous check` reads files without it

    path = name or str(source)
    picture = _load(source, path, max_pixels, formats)
    picture = reduce_to_8_bits(turn_upright(picture, read_orientation(picture)), path)
    # Rows of RGB triples seen as (3, H, W): the layout that uint8 resizing is fastest on.
    pixels = np.empty((picture.height, picture.width, 3), np.uint8)
    num_rows = max(1, _STRIP_PIXELS // max(1, picture.width))
    for top in range(0, picture.height, num_rows):  # as a whole there would be two more copies
        bottom = min(top + num_rows, picture.height)
        strip = picture.crop((0, top, picture.width, bottom))
        pixels[top:bottom] = np.asarray(strip.convert("RGB"))
    return torch.from_numpy(pixels).permute(2, 0, 1)


def read_image_size(
    source: Path | BinaryIO,
    *,
    name: str | None = None,
    formats: tuple[str, ...] | None = None,
) -> tuple[int, int]:
    """Return the height and width that a picture file states, before it is turned upright.

    Raises:
        DataError: The file is missing or no picture.
    """
    with _open(source, name or str(source), formats) as picture:
        return picture.height, picture.width


def reduce_to_8_bits(picture: Image.Image, path: Path | str) -> Image.Image:
    """Return a picture of at most 8 bits per channel: of 16 bits the high byte is kept.

    Raises:
        DataError: The picture is of floating point.
    """
    if picture.mode.startswith("I"):
        grey = np.clip(np.asarray(picture).astype(np.int64) >> 8, 0, 255).astype(np.uint8)
        return Image.fromarray(grey)
    if picture.mode == "F":
        raise DataError(
            f"The picture {path} holds floating point numbers, whose range is unknown. "
            "Save it with 8 or 16 bits per channel."
        )
    return picture


def read_mask(path: Path, *, num_classes: int, ignore_index: int = VOID) -> "Tensor":
    """Read a mask of class indices; palette masks keep their indices.

    Args:
        path: Palette or grey picture without loss (PNG, TIFF, BMP), one number per pixel.
        num_classes: Values from 0 to this, exclusive, are classes.
        ignore_index: Value in the file of pixels without a class, besides 255.

    Shapes:
        returns: uint8 (H, W), with void as `VOID`

    Raises:
        DataError: The file cannot be read, has colours or loss, or a value that is no class.
    """
    import torch

    indices = read_indices(path)
    if wrong := find_wrong_values(indices, num_classes, ignore_index):
        raise DataError(
            f"The mask {path} has the value{'s' * (len(wrong) > 1)} {shorten(wrong)}, but this "
            f"data set has {num_classes} classes, 0 to {num_classes - 1}, and {ignore_index} for "
            "void. Correct the mask, list all classes in classes.toml, or set ignore_index to "
            "the value that marks pixels without a class."
        )
    if ignore_index != VOID:
        indices[indices == ignore_index] = VOID
    return torch.from_numpy(indices.astype(np.uint8, copy=False))


def read_indices(path: Path) -> np.ndarray:
    """Read the numbers of a mask file as they are, as a writable integer array (H, W).

    Raises:
        DataError: The file cannot be read, holds colours, or is a JPEG.
    """
    picture = _load(path)
    if picture.format == "JPEG":
        raise DataError(
            f"The mask {path} is a JPEG, which changes pixel values, so its class indices cannot "
            "be trusted. Export the masks again as PNG."
        )
    if not holds_indices(picture):
        raise DataError(
            f"RGB mask where indices were expected: {path} has mode {picture.mode}. A mask holds "
            "one class index per pixel (0, 1, 2, …; 255 for void) as a grey or palette PNG. "
            "Convert it: give each colour the index of its class; `atrous check DATA --fix DIR` "
            "does so."
        )
    indices = np.array(picture)
    return indices.astype(np.uint8) if indices.dtype == bool else indices


def holds_indices(picture: Image.Image) -> bool:
    """Tell whether a picture has one whole number per pixel, as a mask must."""
    return picture.mode in ("P", "L", "1", "I") or picture.mode.startswith("I;16")


def read_orientation(picture: Image.Image) -> int:
    """Return the EXIF orientation, 1 to 8, with 1 where there is none that means anything."""
    orientation = picture.getexif().get(_ORIENTATION, 1)
    return orientation if orientation in range(1, 9) else 1


def turn_upright(picture: Image.Image, orientation: int) -> Image.Image:
    """Return a picture turned and mirrored as an EXIF orientation asks."""
    turn = _TURNS.get(orientation)
    return picture if turn is None else picture.transpose(turn)


def find_wrong_values(indices: np.ndarray, num_classes: int, ignore_index: int) -> list[int]:
    """Return the sorted values that are neither a class, nor `ignore_index`, nor `VOID`."""
    suspects = indices[(indices >= num_classes) | (indices < 0)]
    return [int(v) for v in np.unique(suspects) if v not in (ignore_index, VOID)]


def check_same_size(
    image_hw: tuple[int, int], mask_hw: tuple[int, int], image_path: Path, mask_path: Path
) -> None:
    """Raise DataError unless a picture and its mask are of one size."""
    if image_hw != mask_hw:
        if image_hw == mask_hw[::-1] and _is_on_its_side(image_path):
            raise DataError(
                f"The picture {image_path} is turned upright as its EXIF orientation says, but its "
                f"mask {mask_path} was drawn on the picture as stored. Turn both upright and drop "
                "the EXIF orientation: `atrous check DATA --fix DIR` does."
            )
        raise DataError(
            f"The picture {image_path} is {image_hw[1]} × {image_hw[0]} pixels (width × height), "
            f"but its mask {mask_path} is {mask_hw[1]} × {mask_hw[0]}. Make the mask from this "
            "very picture, or resize it with nearest neighbour."
        )


def _is_on_its_side(path: Path) -> bool:
    with Image.open(path) as picture:
        return read_orientation(picture) >= 5


def shorten(items: list[Any], most: int = 10) -> str:
    """Return the first items separated by commas, with `…` where some are left out."""
    return ", ".join(str(item) for item in items[:most]) + (", …" if len(items) > most else "")


UNREADABLE = (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError)
"""What PIL raises for files that it cannot read."""

_OPENING = threading.Lock()


def _load(
    source: Path | BinaryIO,
    name: str | None = None,
    max_pixels: int = MAX_PIXELS,
    formats: tuple[str, ...] | None = None,
) -> Image.Image:
    name = name or str(source)
    with _open(source, name, formats) as picture:
        if picture.width * picture.height > max_pixels:
            raise DataError(
                f"The picture {name} states {picture.width} × {picture.height} pixels, "
                f"{picture.width * picture.height / 1e6:,.0f} million, where at most "
                f"{max_pixels / 1e6:,.0f} million are taken. If it is what it should be, make it "
                "smaller, or raise the limit where there is an option for it."
            )
        try:
            picture.load()
        except UNREADABLE as error:
            raise describe_unreadable(name, error) from error
        return picture


def _open(
    source: Path | BinaryIO, name: str, formats: tuple[str, ...] | None = None
) -> Image.Image:
    """Read the header only, without Pillow's own limit, of which one half is but a warning."""
    with _OPENING:
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            return Image.open(source, formats=formats)
        except UNREADABLE as error:
            raise describe_unreadable(name, error) from error
        finally:
            Image.MAX_IMAGE_PIXELS = limit


def describe_unreadable(path: Path | str, error: Exception) -> DataError:
    """Say what is wrong with a file that made PIL raise one of `UNREADABLE`."""
    if isinstance(error, FileNotFoundError):
        return DataError(f"There is no file {path}.")
    reason = "no known picture format" if isinstance(error, UnidentifiedImageError) else str(error)
    return DataError(
        f"Cannot read {path} as a picture: {reason}. Fetch or export it again, or remove it; from "
        "a data set, together with its partner and its name in split lists."
    )
