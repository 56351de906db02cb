"""Reading images as 8-bit RGB or at their own depth, and masks as integers."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np
from PIL import Image

from atrous.errors import DataError
from atrous.images.array_file import Array
from atrous.images.arrays import mark_nodata, open_array
from atrous.images.image_file import MAX_PIXELS, check_size, decode_image, describe_pages, warn
from atrous.images.shard_file import File, open_source

if TYPE_CHECKING:
    from torch import Tensor

_MAX_BLACK = 15
_STRIP_PIXELS = 2**24


def read_image(
    source: File | BinaryIO,
    *,
    name: str | None = None,
    max_pixels: int = MAX_PIXELS,
    formats: tuple[str, ...] | None = None,
    page: int | None = None,
    bands: int | None = None,
    warn: Callable[[str], object] = warn,
) -> "Tensor":
    """Read an image file and apply its EXIF orientation.

    Without `bands`, the result is 8-bit RGB: grey, palette and CMYK images are converted, and alpha
    is dropped. Deeper images are reduced with a warning, see `reduce_to_rgb`. With `bands`, it has
    the values of the file, and NaN in pixels without data. A damaged EXIF block is ignored with a
    warning.

    Args:
        source: Path, file in a shard or seekable file object.
        name: Name in messages; by default the path.
        max_pixels: Largest number of pixels; checked before decoding.
        formats: Pillow's names of the formats that are tried; None for all.
        page: One of `list_pages`; by default the first, with a warning if there are more.
        bands: Number of bands that the image must have; None for 8-bit RGB.
        warn: Called with the text of each warning; by default issues an `AtrousWarning`.

    Shapes:
        returns: uint8 (3, H, W), or float32 (bands, H, W)

    Raises:
        DataError: The file is missing, truncated, no image, too large, or has other bands.
    """
    import torch  # here, since `atrous check` reads files without it

    path, source = name or str(source), open_source(source)
    opened = open_array(source, path, page=page, bands=bands)
    if opened is not None:
        check_size(opened.size_hw, max_pixels, path)
        if page is None and opened.num_pages > 1:
            warn(describe_pages(path))
        if bands is not None:
            check_bands(opened.num_bands, bands, path)
            values = mark_nodata(opened.read(), opened.nodata)
            return torch.from_numpy(values).permute(2, 0, 1)
        return torch.from_numpy(reduce_to_rgb(opened.read(), path, warn)).permute(2, 0, 1)
    decoded = decode_image(source, path, max_pixels=max_pixels, formats=formats, page=page)
    for text in decoded.list_warnings(path):
        warn(text)
    image = decoded.image
    if bands is not None:
        pixels = _list_bands(image, bands)
        check_bands(pixels.shape[-1], bands, path)
        return torch.from_numpy(pixels.astype(np.float32)).permute(2, 0, 1)
    # Channels last in memory, on which uint8 resizing is fastest.
    pixels = np.empty((image.height, image.width, 3), np.uint8)
    num_rows = max(1, _STRIP_PIXELS // max(1, image.width))
    for top in range(0, image.height, num_rows):  # strips save two copies of the whole image
        bottom = min(top + num_rows, image.height)
        strip = image.crop((0, top, image.width, bottom))
        pixels[top:bottom] = np.asarray(strip.convert("RGB"))
    return torch.from_numpy(pixels).permute(2, 0, 1)


def reduce_to_rgb(array: Array, path: Path | str, warn: Callable[[str], object] = warn) -> Array:
    """Return an image of any depth as 8-bit RGB, for models of 8-bit RGB images.

    Of whole numbers, the highest 8 of the bits that the image uses are kept: those above bit 4 if
    its largest value is 4000. Other numbers are scaled from their percentiles 0.5 and 99.5 to 0 and
    255. One band is grey; of more than three, the first three are red, green and blue.

    Shapes:
        array: (H, W, bands)
        returns: uint8 (H, W, 3)

    Raises:
        DataError: The image has two bands.
    """
    num_bands = array.shape[-1]
    if num_bands == 2:
        raise DataError(
            f"The image {path} has 2 bands, where 1 (grey) or 3 (red, green, blue) were expected."
        )
    if num_bands > 3:
        warn(
            f"Of images with {num_bands} bands, such as {path}, the first three are read as red, "
            "green and blue, since 8-bit RGB was expected; the others are not used."
        )
    array = array[..., :3]
    if array.dtype.kind == "u":
        num_bits = max(8, int(array.max(initial=0)).bit_length())
        reduced, rule = (array >> (num_bits - 8)).astype(np.uint8), "the highest 8 bits are kept"
    else:
        low, high = np.nanpercentile(array, (0.5, 99.5)) if array.size else (0, 1)
        scaled = 255 * (array.astype(np.float32) - low) / max(high - low, 1e-12)
        reduced = np.nan_to_num(scaled).clip(0, 255).astype(np.uint8)
        rule = "percentiles 0.5 and 99.5 become 0 and 255"
    if array.dtype.itemsize > 1:
        warn(
            "Images of more than 8 bits are reduced to 8-bit RGB, since that was expected: of the "
            f"values that each image uses, {rule} (docs/data.md)."
        )
    return np.broadcast_to(reduced, (*reduced.shape[:2], 3)).copy()


def render_preview(array: Array) -> Image.Image:
    """Return the first three bands, or the first as grey, from percentiles 0.5 to 99.5."""
    shown = array[..., : 3 if array.shape[-1] >= 3 else 1].astype(np.float32)
    valid = shown[np.isfinite(shown).all(axis=-1)]
    low, high = np.percentile(valid, (0.5, 99.5), axis=0) if len(valid) else (0.0, 1.0)
    shares = np.nan_to_num((shown - low) / np.maximum(high - low, 1e-12))
    pixels = (255 * shares.clip(0, 1)).astype(np.uint8)
    return Image.fromarray(pixels if pixels.shape[-1] == 3 else pixels[..., 0])


def check_bands(found: int, expected: int, path: Path | str) -> None:
    """Raise DataError unless an image has the expected number of bands."""
    if found != expected:
        raise DataError(
            f"The image {path} has {found} band{'s' * (found > 1)}, where {expected} "
            f"{'were' if expected > 1 else 'was'} expected. A dataset and its model have one "
            "number of bands: export the image again, or set `bands` in classes.toml if the first "
            "image is the wrong one."
        )


def _list_bands(image: Image.Image, bands: int) -> Array:
    """Return an image of 8 bits as (H, W, bands), without transparency unless it is expected."""
    if image.mode in ("RGBA", "LA", "PA") and len(image.getbands()) != bands:
        image = image.convert("L" if image.mode == "LA" else "RGB")
    if image.mode not in ("L", "LA", "RGB", "RGBA"):
        image = image.convert("L" if image.mode == "1" else "RGB")
    pixels = np.asarray(image)
    return pixels[..., None] if pixels.ndim == 2 else pixels


def is_nearly_black(pixels: "np.ndarray | Tensor") -> bool:
    """Return whether all uint8 pixels are below 16, as of 12-bit data in a 16-bit file."""
    return int(pixels.max()) <= _MAX_BLACK


def read_indices(path: File) -> np.ndarray:
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


def describe_float_mask(path: File) -> str:
    """Return the error message for a mask of floating point numbers."""
    return (
        f"The mask {path} holds floating point numbers where class indices were expected. Save "
        "it as whole numbers of 8 bits, for example with NumPy's `mask.astype('uint8')`, as PNG."
    )


def check_same_size(
    image_hw: tuple[int, int], mask_hw: tuple[int, int], image_path: File, mask_path: File
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
