"""Decoding: format by content, EXIF orientation, limits."""

import struct
import zlib
from contextlib import contextmanager
from io import BytesIO

import numpy as np
import pytest
from colored import draw, encode
from PIL import Image

from atrous.errors import ConfigError
from atrous.images import read_image
from atrous.serve.errors import RequestError
from atrous.serve.image import decode_image
from atrous.serve.limits import Limits, Memory, Reservation

LIMITS = Limits(max_pixels=100_000, max_side_px=1000)


def build_png_header(width: int, height: int) -> bytes:
    """A valid PNG of a few bytes with any size in its header."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        checksum = struct.pack(">I", zlib.crc32(kind + content))
        return struct.pack(">I", len(content)) + kind + content + checksum

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = zlib.compress(bytes(1000))
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    )


@contextmanager
def raises(status: int, match: str):
    with pytest.raises(RequestError, match=match) as caught:
        yield
    assert caught.value.status == status


def read(content: bytes, memory: Memory | None = None) -> np.ndarray:
    with Reservation(memory or Memory(LIMITS.max_memory_bytes)) as reservation:
        return decode_image(content, LIMITS, reservation).permute(1, 2, 0).numpy()


@pytest.mark.parametrize("format", ["PNG", "BMP", "TIFF", "WEBP", "JPEG"])
def test_an_image_is_read_as_predict_reads_it(format):
    pixels, _ = draw()
    content = encode(pixels, format, **({"lossless": True} if format == "WEBP" else {}))
    assert np.array_equal(read(content), read_image(BytesIO(content)).permute(1, 2, 0).numpy())


def test_the_exif_orientation_is_applied():
    pixels, _ = draw(30, 50)
    exif = Image.Exif()
    exif[0x0112] = 6
    assert np.array_equal(read(encode(pixels, exif=exif)), np.rot90(pixels, -1))


@pytest.mark.parametrize(
    ("width", "height"), [(60_000, 60_000), (1001, 1), (1, 1001), (400, 251), (2**31 - 1, 1)]
)
def test_an_image_above_the_limits_is_rejected_before_decoding(width, height):
    memory = Memory(10)  # decoding would need more and fail
    with raises(413, f"{width} × {height}"):
        read(build_png_header(width, height), memory)


def test_other_formats_are_rejected():
    pixels, _ = draw()
    for format in ("GIF", "PPM", "TGA", "ICO", "PDF", "EPS"):
        with raises(415, "Send PNG, JPEG, WebP, BMP or TIFF"):
            read(encode(pixels, format))


def test_damaged_images_are_reported():
    pixels, _ = draw()
    with raises(422, "damaged or incomplete"):
        read(encode(pixels)[:500])
    with raises(422, "The image in the request cannot be read: it holds 32-bit whole numbers"):
        read(encode(pixels[..., 0].astype(np.int32), "TIFF"))
    jpeg = encode(pixels, "JPEG", progressive=True)
    assert read(jpeg).shape == (40, 50, 3)
    with raises(422, "scans"):
        read(jpeg[:-2] + b"\xff\xda\x00\x08\x01\x01\x00\x00\x3f\x00" * 200 + jpeg[-2:])


def test_memory_is_shared_and_released():
    memory = Memory(50_000)
    content = encode(draw(60, 60)[0])
    assert read(content, memory).shape == (60, 60, 3)
    assert memory.reserved_bytes == 0
    with Reservation(memory) as other:
        other.resize(40_000)
        with raises(429, "other requests"):
            read(content, memory)
        assert memory.reserved_bytes == 40_000
    assert memory.reserved_bytes == 0


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"max_waiting": 0}, "max_waiting must be a number above 0"),
        ({"max_memory_bytes": 10**6}, "too small"),
    ],
)
def test_invalid_limits_are_reported(values, words):
    with pytest.raises(ConfigError, match=words):
        Limits(**values)
