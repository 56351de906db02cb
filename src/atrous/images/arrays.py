"""Image files at their own depth: TIFF and PNG of more than 8 bits or other bands, and .npy."""

import math
import re
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from atrous.bands import MAX_BANDS
from atrous.errors import DataError
from atrous.images.array_file import Array, ArrayFile, read_all
from atrous.images.image_file import describe_unreadable, open_image
from atrous.images.orientation import find_orientation, turn_array
from atrous.images.shard_file import File, open_source
from atrous.images.tiff import TIFF_STARTS, open_tiff

KINDS = ("|u1", "|i1", "<u2", "<i2", "<f2", "<f4", "<f8")
"""Types of numbers that are read. float32 holds the values of all but float64."""

_NPY, _PNG = b"\x93NUMPY", b"\x89PNG\r\n\x1a\n"
_PNG_TEXTS = re.compile(rb"eXIf|iTXt|tEXt|zTXt")
_NAMES = {"c": "complex numbers", "u": "whole numbers", "i": "whole numbers"}


def open_array(
    source: File | BinaryIO, name: str, *, page: int | None = None, bands: int | None = None
) -> ArrayFile | None:
    """Read the header of an image file; None for what Pillow reads as 8-bit grey, RGB or CMYK.

    `bands` is the expected number of bands. A TIFF with as many pages of one band has its bands in
    pages; transparency is a band if there are too few others. For the rest, see `read_image`.

    Raises:
        DataError: The numbers are of another type, or there are too many axes or bands.
    """
    source = open_source(source)
    if isinstance(source, Path) and not source.is_file():
        return None  # missing, or a pipe
    head, opened = b"", None
    try:
        with open(source, "rb") if isinstance(source, Path) else nullcontext(source) as file:
            file.seek(0)
            head = file.read(26)
            if head.startswith(_NPY):
                opened = _open_npy(source, file)
        if head.startswith(_PNG) and head[24:25] == b"\x10":
            opened = _open_png(source, name, head, bands)
        elif head[:4] in TIFF_STARTS:
            opened = open_tiff(source, page or 0, bands)
        if opened is None:
            return None
        _check(opened)
    except DataError as error:
        raise DataError(f"The image {name} cannot be read: {error}") from None
    except Exception as error:  # damaged headers raise exceptions of many kinds
        if head.startswith(_NPY):
            raise describe_unreadable(name, ValueError(str(error)), source) from error
        return None  # Pillow says what is wrong
    return replace(opened, read=partial(_read, opened, name, source))


def describe_bands(opened: ArrayFile | None) -> str:
    """Return the bands of an image and the type of their numbers, such as `4 bands of uint16`."""
    if opened is None:
        return "8-bit grey or RGB"
    plural = "s" * (opened.num_bands > 1)
    return f"{opened.num_bands} band{plural} of {np.dtype(opened.dtype).name}"


def mark_nodata(array: Array, nodata: float | None) -> npt.NDArray[np.float32]:
    """Return an array (H, W, bands) as float32, with NaN in all bands of pixels without data.

    A pixel has no data if a band is NaN or infinite, or if all bands have the value `nodata`.
    """
    values = array.astype(np.float32)
    if array.dtype.kind == "f" or (nodata is not None and math.isfinite(nodata)):
        invalid = ~np.isfinite(values).all(axis=-1)
        if nodata is not None:
            invalid |= (values == np.float32(nodata)).all(axis=-1)
        values[invalid] = np.nan
    return values


def _read(opened: ArrayFile, name: str, source: Path | BinaryIO) -> Array:
    try:
        return opened.read().reshape(*opened.upright_hw, opened.num_bands)
    except DataError as error:
        raise DataError(f"The image {name} cannot be read: {error}") from None
    except Exception as error:  # damaged files raise exceptions of many kinds
        raise describe_unreadable(name, ValueError(str(error)), source) from error


def _check(opened: ArrayFile) -> None:
    if opened.dtype not in KINDS:
        dtype = np.dtype(opened.dtype or "V")
        kind = _NAMES.get(dtype.kind, "numbers of an unknown kind")
        raise DataError(
            f"it holds {8 * dtype.itemsize}-bit {kind}. Save it as whole numbers of 8 or 16 bits, "
            "or as float32."
        )
    if not 1 <= opened.num_bands <= MAX_BANDS or min(opened.size_hw) < 1:
        raise DataError(f"it has {opened.num_bands} bands; 1 to {MAX_BANDS} can be read.")


def _open_npy(source: Path | BinaryIO, file: BinaryIO) -> ArrayFile:
    file.seek(0)
    is_old = np.lib.format.read_magic(file) == (1, 0)
    read_header = np.lib.format.read_array_header_1_0
    shape, _, dtype = (read_header if is_old else np.lib.format.read_array_header_2_0)(file)
    start = file.tell()
    if dtype.hasobject or file.seek(0, 2) - start < math.prod(shape) * dtype.itemsize:
        raise ValueError("it holds Python objects, or it is truncated")
    if len(shape) not in (2, 3) or (len(shape) == 3 and shape[0] == shape[2]):
        raise DataError(
            f"it is an array of the shape {shape}. An image has two axes, or three with the bands "
            "first or last and fewer bands than rows and columns."
        )
    height, width, num_bands = (*shape, 1)[:3]
    if bands_first := len(shape) == 3 and height < num_bands:
        num_bands, height, width = shape

    def read() -> Array:
        content = source if isinstance(source, Path) else BytesIO(read_all(source))
        array = np.load(content, allow_pickle=False)
        return np.moveaxis(array, 0, -1) if bands_first else array

    return ArrayFile((height, width), num_bands, dtype.newbyteorder("<").str, read)


def _open_png(source: Path | BinaryIO, name: str, head: bytes, bands: int | None) -> ArrayFile:
    width, height = int.from_bytes(head[16:20], "big"), int.from_bytes(head[20:24], "big")
    samples = {0: 1, 2: 3, 6: 4}.get(head[25])
    if samples is None:
        raise DataError(
            "it is a PNG of 16-bit grey with transparency. Save it without transparency."
        )
    num_bands = 3 if samples == 4 and bands != 4 else samples
    orientation = 1
    if _PNG_TEXTS.search(read_all(source)):  # otherwise Pillow decodes all pixels to look for it
        with open_image(source, name, ("PNG",)) as image:
            orientation = find_orientation(image) or 1

    def read() -> Array:
        parts = [_decode_png(source, name, end) for end in ("BL" if samples > 1 else "B")]
        pixels = parts[0] if samples == 1 else parts[0].astype(np.uint16) << 8 | parts[1]
        return turn_array(pixels.reshape(height, width, samples)[..., :num_bands], orientation)

    return ArrayFile((height, width), num_bands, "<u2", read, orientation)


def _decode_png(source: Path | BinaryIO, name: str, end: str) -> Array:
    """Decode a PNG of 16 bits; in colour the high bytes (`B`) or the low bytes (`L`).

    Pillow has no mode for 16 bits in colour. It keeps the high byte of big-endian numbers, which is
    the low byte if they are declared as little-endian.
    """
    with open_image(source, name, ("PNG",)) as image:
        if end == "L":
            tile: Any = image.tile[0]
            image.tile = [tile._replace(args=tile.args.replace(";16B", ";16L"))]
        image.load()
        return np.asarray(image)
