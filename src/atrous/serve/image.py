"""Decoding of untrusted image files."""

import ctypes
from collections.abc import Callable
from contextlib import suppress
from io import BytesIO
from typing import Any

import PIL._imaging
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from atrous.errors import DataError
from atrous.images.image_file import read_image_size, warn
from atrous.images.reading import read_image
from atrous.serve.errors import RequestError
from atrous.serve.limits import BAND_BYTES, DECODING_BYTES, MAX_PIXELS, Limits, Reservation

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF")
"""Supported formats, by Pillow's names. No other decoder is used."""

_MAX_SCANS = 100
"""Of a progressive JPEG. Usual are ten; each costs as much as decoding the image once."""

_OPTIONS: dict[str, Any] = {"name": "in the request", "formats": FORMATS}


def prepare_decoders() -> None:
    """Import Pillow's decoders, and stop libtiff from printing errors, which Pillow raises too."""
    Image.init()  # else the first file of another format would do it, which takes 0.2 s
    with suppress(OSError, AttributeError):
        ctypes.CDLL(PIL._imaging.__file__).TIFFSetErrorHandler(None)


def decode_image(
    content: bytes,
    limits: Limits,
    reservation: Reservation,
    bands: int | None = None,
    warn: Callable[[str], object] = warn,
) -> Tensor:
    """Decode an image file as `atrous predict` does, with its EXIF orientation applied.

    Args:
        content: The file.
        limits: Limits of pixels and sides, checked before decoding.
        reservation: Memory of the request.
        bands: Number of bands of the model; None for 8-bit RGB.
        warn: Called with warnings about ignored parts of the file; see `read_image`.

    Shapes:
        returns: uint8 (3, H, W), or float32 (bands, H, W)

    Raises:
        RequestError: 415: the format is not supported. 413: the image is too large. 422: it cannot
            be decoded. 429: the memory is full.
    """
    max_pixels = limits.max_pixels or MAX_PIXELS
    try:
        height, width = read_image_size(BytesIO(content), **_OPTIONS)
        if max(height, width) > limits.max_side_px or height * width > max_pixels:
            raise RequestError(
                413,
                f"The image has {width} × {height} pixels. The limits are {limits.max_side_px} on "
                f"a side and {max_pixels / 1e6:.3g} million in total. Send a smaller image.",
            )
        if content[:2] == b"\xff\xd8" and content.count(b"\xff\xda") > _MAX_SCANS:
            raise RequestError(
                422,
                f"The JPEG has more than {_MAX_SCANS} scans, which no camera or program writes. "
                "Save it again.",
            )
        per_pixel = DECODING_BYTES + BAND_BYTES * (bands or 0)
        reservation.resize(len(content) + per_pixel * height * width)
        image = read_image(
            BytesIO(content), max_pixels=max_pixels, bands=bands, warn=warn, **_OPTIONS
        )
        reservation.resize(image.numel() * image.element_size())
        return image
    except RequestError:
        raise
    except Exception as error:  # decoders raise errors of any type for damaged files
        raise _explain(error) from error


def _explain(error: Exception) -> RequestError:
    cause = error.__cause__ or error
    if isinstance(cause, UnidentifiedImageError):
        return RequestError(
            415,
            "The body is not an image in a supported format. Send PNG, JPEG, WebP, BMP or TIFF; "
            "the format is detected from the content, not from the name.",
        )
    if isinstance(error, DataError) and error.__cause__ is None:
        return RequestError(422, str(error))
    reason = str(cause).strip().split("\n", maxsplit=1)[0][:200] or type(cause).__name__
    return RequestError(
        422, f"The image cannot be decoded: {reason}. It is damaged or incomplete; send it again."
    )
