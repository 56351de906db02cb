"""EXIF orientation of images."""

import struct
import zlib
from typing import Any

import numpy.typing as npt
from PIL import Image

PNG = b"\x89PNG\r\n\x1a\n"
"""First bytes of a PNG file."""

_TAG = 0x0112
_LETTERS = {1: "B", 3: "H", 4: "I"}
"""Letters of the `struct` module for the kinds of numbers in EXIF: bytes, short, long."""

_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_INVERSE = {6: 8, 8: 6}


def find_orientation(image: Image.Image) -> int | None:
    """Return the EXIF orientation, 1 to 8; 1 if it is missing or invalid, None if EXIF is damaged.

    Call it before decoding a TIFF and after decoding other formats: a PNG may store it last.
    """
    exif = image.info.get("exif")
    try:
        # Pillow reads a damaged block as an empty one, or warns without naming the file.
        orientation = _parse(exif) if isinstance(exif, bytes) else None
        if orientation is None:
            orientation = image.getexif().get(_TAG, 1)  # TIFF tags, XMP, text of a PNG
    except Exception:  # damaged blocks raise exceptions of many kinds
        return None
    return int(orientation) if orientation in range(1, 9) else 1


def turn_upright(image: Image.Image, orientation: int) -> Image.Image:
    """Return an image with an EXIF orientation applied."""
    turn = _TURNS.get(orientation)
    return image if turn is None else image.transpose(turn)


def turn_array(array: npt.NDArray[Any], orientation: int) -> npt.NDArray[Any]:
    """Return an array (H, W, …) with an EXIF orientation applied."""
    if orientation >= 5:
        array = array.swapaxes(0, 1)
    rows = -1 if orientation in (3, 4, 7, 8) else 1
    columns = -1 if orientation in (2, 3, 6, 7) else 1
    return array[::rows, ::columns]


def turn_back(image: Image.Image, orientation: int) -> Image.Image:
    """Return an image with an EXIF orientation undone."""
    return turn_upright(image, _INVERSE.get(orientation, orientation))


def blank_damaged_exif(content: bytes) -> bytes:
    """Replace the EXIF blocks of a PNG whose checksums are wrong by an invalid one."""
    place, chunks = len(PNG), [content[: len(PNG)]]
    while place + 12 <= len(content):
        end = place + 12 + int.from_bytes(content[place : place + 4], "big")
        chunk = content[place:end]
        if chunk[4:8] == b"eXIf" and zlib.crc32(chunk[4:-4]) != int.from_bytes(chunk[-4:], "big"):
            chunk = b"\0\0\0\1eXIf?" + zlib.crc32(b"eXIf?").to_bytes(4, "big")
        chunks.append(chunk)
        place = end
    return b"".join(chunks) + content[place:]


def _parse(exif: bytes) -> int | None:
    """Return the orientation in an EXIF block; None without one. A damaged block is an error."""
    while exif.startswith(b"Exif\0\0"):
        exif = exif[6:]
    if not exif:
        return None
    order = {b"II": "<", b"MM": ">"}[exif[:2]]
    (start,) = struct.unpack_from(f"{order}I", exif, 4)
    (num_entries,) = struct.unpack_from(f"{order}H", exif, start)
    for place in range(start + 2, start + 2 + 12 * num_entries, 12):
        tag, kind, _, value = struct.unpack_from(f"{order}HHI4s", exif, place)
        if tag == _TAG:
            letter = _LETTERS.get(kind)
            return 1 if letter is None else int(struct.unpack_from(order + letter, value)[0])
    return None
