"""From the bytes of a file to a checked image."""

import logging
from collections.abc import Callable
from io import BytesIO

from PIL import UnidentifiedImageError
from torch import Tensor

from atrous.data.image_file import read_image_size
from atrous.data.sample import read_image
from atrous.errors import DataError
from atrous.serve.limits import DECODING_BYTES, Limits
from atrous.serve.memory import Hold
from atrous.serve.refusals import RefusedError, TooLargeError, UnknownFormatError, UnusableError

FORMATS = {
    "PNG": "image/png",
    "JPEG": "image/jpeg",
    "WEBP": "image/webp",
    "BMP": "image/bmp",
    "TIFF": "image/tiff",
}
"""What is read, as Pillow calls it, and its media type. No other decoder sees a byte."""

_MAX_SCANS = 100
"""A progressive JPEG has about ten; each costs as much as decoding the image once."""

_LOG = logging.getLogger(__name__)

_NAME = "that was sent"  # "The image that was sent holds …"


def decode_image(
    content: bytes, limits: Limits, hold: Hold, warn: Callable[[str], object] = _LOG.warning
) -> Tensor:
    """Read an image file as `atrous predict` does: RGB, upright as its EXIF orientation says.

    Args:
        content: The file. What it is called and said to be does not matter.
        limits: Pixels and sides, checked on the file's header.
        hold: Told what the image takes in memory.
        warn: Called with what of the file is not used; by default the log is.

    Shapes:
        returns: uint8 (3, H, W)

    Raises:
        UnknownFormatError: It is no image, or of a format that is not read.
        TooLargeError: It states more pixels than are allowed.
        UnusableError: It cannot be decoded.
        BusyError: There is no memory for it now.
    """
    try:
        height, width = read_image_size(BytesIO(content), name=_NAME, formats=tuple(FORMATS))
        check_size(height, width, limits)
        if content[:2] == b"\xff\xd8" and content.count(b"\xff\xda") > _MAX_SCANS:
            raise UnusableError(
                f"The JPEG has more than {_MAX_SCANS} scans, which no camera or program writes. "
                "Save it again."
            )
        hold.set(len(content) + DECODING_BYTES * height * width)
        image = read_image(
            BytesIO(content),
            name=_NAME,
            max_pixels=limits.max_pixels,
            formats=tuple(FORMATS),
            warn=warn,
        )
        hold.set(image.numel())
        return image
    except RefusedError:
        raise
    except Exception as error:  # decoders raise what they like on damaged files
        raise _explain(error) from error


def check_size(height: int, width: int, limits: Limits) -> None:
    """Refuse an image that is too large.

    Raises:
        TooLargeError: It is.
    """
    if max(height, width) > limits.max_side_px or height * width > limits.max_pixels:
        raise TooLargeError(
            f"The image states {width} × {height} pixels. At most {limits.max_side_px} on a side "
            f"and {limits.max_pixels / 1e6:g} million in all are taken. Make it smaller."
        )


def _explain(error: Exception) -> RefusedError:
    cause = error.__cause__ or error
    if isinstance(cause, UnidentifiedImageError):
        return UnknownFormatError(
            "The body is no image that can be read here. Send PNG, JPEG, WebP, BMP or TIFF; the "
            "content counts, not the name."
        )
    if isinstance(error, DataError) and error.__cause__ is None:
        return UnusableError(str(error))
    reason = str(cause).strip().split("\n", maxsplit=1)[0][:200] or type(cause).__name__
    return UnusableError(
        f"The image cannot be decoded: {reason}. It is damaged or cut short; send the whole file."
    )
