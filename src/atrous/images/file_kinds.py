"""Kinds of files that are not readable images, detected by their first bytes."""

import re
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import BinaryIO

from PIL import TiffImagePlugin

_HEAD_BYTES = 4096
_TIFF_HEADER_BYTES = {b"II*\0": 8, b"MM\0*": 8, b"II+\0": 16, b"MM\0+": 16}
_SAMPLES, _BITS, _FORMAT = 277, 258, 339
_FORMAT_NAMES = {1: "whole numbers", 2: "signed numbers", 3: "floating point", 5: "complex numbers"}

_CONVERT = "Convert it to PNG, or to JPEG if it is not a mask"
_BINARY = "Copy it again in binary mode; in Git, mark the files as binary in .gitattributes"

_KINDS = (
    (rb"\Z", "an empty file of 0 bytes", "Copy it again from its source"),
    (rb"\0+\Z", "filled with zeros", "Copy it again from its source"),
    (
        rb"version https://git-lfs",
        "a Git LFS pointer instead of the image",
        "Run `git lfs pull` in its repository",
    ),
    (
        rb"(?i)(\xef\xbb\xbf)?\s*(<!--.*?-->\s*)?<(!doctype html|html|head|body)",
        "an HTML page, which servers send if a file is missing or requires a login",
        "Download the image itself",
    ),
    (rb"\x89PNG\n\x1a?\n", "a PNG that has lost its CR bytes in a text transfer", _BINARY),
    (
        rb"\x89PNG\r\r\n|[\x09?]PNG|\xef\xbf\xbdPNG|\xc2\x89PNG",
        "a PNG whose bytes were changed in a text transfer",
        _BINARY,
    ),
    (rb"\xef\xbf\xbd\xef\xbf\xbd", "a file whose bytes were converted as text", _BINARY),
    (rb".{4}ftyp(heic|heix|hevc|mif1|msf1)", "a HEIC image", _CONVERT),
    (rb".{4}ftypavif", "an AVIF image", _CONVERT),
    (rb".{4}ftyp|\x1aE\xdf\xa3", "a video", "Extract single frames"),
    (rb"(<\?xml[^>]*>\s*)?(<!--.*?-->\s*)?<svg", "an SVG drawing", _CONVERT),
    (rb"%PDF", "a PDF document", _CONVERT),
    (rb"%!PS", "a PostScript program", _CONVERT),
    (rb"PK\x03\x04|\x1f\x8b|7z\xbc\xaf'|Rar!", "an archive", "Unpack it"),
    (rb"\x93NUMPY", "a NumPy array", _CONVERT),
    (rb"SIMPLE  =|\x89HDF|.{128}DICM", "a scientific data file", _CONVERT),
    (rb"\s*[\x20-\x7e\s]{8,}\Z", "a text file", "Replace it by the image"),
)


def describe_file(source: Path | BinaryIO) -> tuple[str, str] | None:
    """Return the kind of a file that is not a readable image, and a remedy; None if unknown."""
    with (
        suppress(OSError),
        source.open("rb") if isinstance(source, Path) else nullcontext(source) as file,
    ):
        file.seek(0)
        head = file.read(_HEAD_BYTES)
        if head[:4] in _TIFF_HEADER_BYTES:
            return _describe_tiff(file, head)
        for start, kind, remedy in _KINDS:
            if re.match(start, head, re.DOTALL):
                return kind, remedy
    return None


def _describe_tiff(file: BinaryIO, head: bytes) -> tuple[str, str] | None:
    """Return the bands and number format of a TIFF, and a remedy."""
    try:
        tags = TiffImagePlugin.ImageFileDirectory_v2(head[: _TIFF_HEADER_BYTES[head[:4]]])
        file.seek(tags.next)
        tags.load(file)
        num_bands, bits = tags.get(_SAMPLES, 1), tags.get(_BITS, (1,))[0]
        numbers = _FORMAT_NAMES.get(tags.get(_FORMAT, (1,))[0], "numbers of an unknown kind")
    except Exception:  # damaged tags raise exceptions of many kinds
        return None
    bands = "1 band" if num_bands == 1 else f"{num_bands} bands"
    remedy = (
        "Write it uncompressed or with deflate, as whole numbers of 8 or 16 bits, or as float32"
    )
    return f"a TIFF of {bands} of {bits}-bit {numbers}", remedy
