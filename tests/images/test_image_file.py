import io
import struct
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFile

from atrous.data import read_mask
from atrous.errors import AtrousWarning, DataError
from atrous.images import read_image
from atrous.images.image_file import decode_image, list_pages, read_image_size

STORED = np.arange(6 * 4, dtype=np.uint8).reshape(6, 4) * 10
UPRIGHT = {
    1: STORED,
    2: STORED[:, ::-1],
    3: STORED[::-1, ::-1],
    4: STORED[::-1],
    5: STORED.T,
    6: np.rot90(STORED, -1),
    7: STORED[::-1, ::-1].T,
    8: np.rot90(STORED),
}
"""By the EXIF standard: where the first row and the first column of what is stored belong."""

XMP = '<x xmlns:tiff="t" tiff:Orientation="{}"/>'


def save_oriented(file, format: str, orientation: int, pixels: np.ndarray = STORED) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"WEBP": {"lossless": True}, "JPEG": {"quality": 100}}.get(format, {})
    Image.fromarray(pixels).save(file, format, exif=exif, **options)


def read_quietly(source):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return read_image(source)


@pytest.mark.parametrize("orientation", UPRIGHT)
@pytest.mark.parametrize("format", ["JPEG", "TIFF", "PNG", "WEBP"])
def test_every_orientation_of_every_format_is_turned_once(tmp_path, format, orientation):
    save_oriented(tmp_path / "a", format, orientation)
    image = read_quietly(tmp_path / "a")[0].numpy()
    assert image.shape == UPRIGHT[orientation].shape
    assert np.abs(image.astype(int) - UPRIGHT[orientation]).max() <= (6 if format == "JPEG" else 0)
    assert decode_image(tmp_path / "a").orientation == orientation
    if format in ("TIFF", "PNG"):
        mask = read_mask(tmp_path / "a", num_classes=255)
        assert np.array_equal(mask.numpy(), UPRIGHT[orientation])


@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_adobe_deflate"])
def test_compressed_tiffs_and_later_pages_are_turned_too(tmp_path, compression):
    pages = [Image.fromarray(STORED), Image.fromarray(255 - STORED)]
    pages[0].save(
        tmp_path / "a.tif",
        save_all=True,
        append_images=pages[1:],
        compression=compression,
        tiffinfo={0x0112: 6},
    )
    for page, stored in enumerate((STORED, 255 - STORED)):
        image = read_image(tmp_path / "a.tif", page=page)
        assert np.array_equal(image[0].numpy(), np.rot90(stored, -1))


def test_an_orientation_in_xmp_counts(tmp_path):
    Image.fromarray(STORED).save(tmp_path / "a.webp", xmp=XMP.format(8).encode(), lossless=True)
    assert np.array_equal(read_quietly(tmp_path / "a.webp")[0].numpy(), UPRIGHT[8])


BLOCK = b"Exif\0\0MM\0*\0\0\0\x08\0\x02"
DAMAGED = {
    "rubbish": b"Exif\0\0garbage!!",
    "no directory": b"Exif\0\0II*\0\x08\0\0\0",
    "cut short": BLOCK + struct.pack(">HHI", 0x0110, 2, 4),
    "far away": b"Exif\0\0II*\0\xff\xff\xff\xff",
    "one byte": b"Exif\0\0I",
}


@pytest.mark.parametrize("exif", DAMAGED.values(), ids=DAMAGED)
@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP"])
def test_a_damaged_exif_block_is_orientation_1_and_warned_of_once(tmp_path, format, exif):
    path = tmp_path / "a"
    Image.fromarray(STORED).save(path, format, exif=exif)
    with pytest.warns(AtrousWarning, match=f"{path} has a damaged EXIF block") as caught:
        assert read_image(path).shape == (3, 6, 4)
    assert len([w for w in caught if w.category is AtrousWarning]) == 1


def test_a_png_whose_exif_block_has_a_wrong_checksum_is_read(tmp_path):
    path = tmp_path / "a.png"
    save_oriented(path, "PNG", 6)
    content = bytearray(path.read_bytes())
    content[content.index(b"eXIf") + 20] ^= 255
    path.write_bytes(content)
    for source in (path, io.BytesIO(content)):
        with pytest.warns(AtrousWarning, match="damaged EXIF block"):
            assert np.array_equal(read_image(source)[0].numpy(), STORED)


@pytest.mark.parametrize("value", [0, 9, 65535])
def test_an_orientation_that_means_nothing_is_none(tmp_path, value):
    save_oriented(tmp_path / "a.png", "PNG", value)
    assert read_quietly(tmp_path / "a.png").shape == (3, 6, 4)


def save_pages(path: Path, num_pages: int = 3, **options) -> None:
    first, *others = (
        Image.fromarray(np.full((6, 4, 3), 60 * n, np.uint8)) for n in range(num_pages)
    )
    first.save(path, save_all=True, append_images=others, **options)


@pytest.mark.parametrize("name", ["a.tif", "a.gif", "a.webp", "a.png"])
def test_pages_are_read_one_by_one_and_the_first_alone_is_warned_of(tmp_path, name):
    path = tmp_path / name
    save_pages(path, **({"lossless": True} if name == "a.webp" else {}))
    assert list_pages(path) == [0, 1, 2]
    assert [int(read_image(path, page=page)[0, 0, 0]) for page in range(3)] == [0, 60, 120]
    for source in (path, io.BytesIO(path.read_bytes())):
        with pytest.warns(AtrousWarning, match="more than one page"):
            assert int(read_image(source)[0, 0, 0]) == 0
    with pytest.raises(DataError, match="Cannot read"):
        read_image(path, page=3)


@pytest.mark.parametrize("name", ["a.gif", "a.webp", "a.png"])
def test_no_frame_is_decoded_before_the_size_is_known_to_be_right(tmp_path, name, monkeypatch):
    path = tmp_path / name
    save_pages(path)
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda image: pytest.fail("decoded"))
    assert read_image_size(path, page=2) == (6, 4)
    with pytest.raises(DataError, match="states 4 × 6 pixels"):
        decode_image(path, page=2, max_pixels=20)


def test_overviews_and_damaged_pages_are_no_pages(tmp_path):
    path = tmp_path / "a.tif"
    first, small = Image.fromarray(STORED), Image.fromarray(STORED[::2, ::2])
    small.encoderinfo = {"tiffinfo": {254: 1}}
    first.save(path, save_all=True, append_images=[small])
    assert list_pages(path) == [0]
    assert read_quietly(path).shape == (3, 6, 4)
    content = bytearray(path.read_bytes())
    with Image.open(path) as image:
        start = image.tag_v2._offset
    end = start + 2 + 12 * struct.unpack_from("<H", content, start)[0]
    for rubbish in (3, len(content) - 1, 2**32 - 1):
        content[end : end + 4] = struct.pack("<I", rubbish)
        assert np.array_equal(read_image(io.BytesIO(bytes(content)))[0].numpy(), STORED)


def test_dangling_links_and_folders_are_errors(tmp_path):
    (tmp_path / "a.png").symlink_to(tmp_path / "gone.png")
    with pytest.raises(DataError, match=r"no file .*a.png. It is a link to a file that does not"):
        read_image(tmp_path / "a.png")
    (tmp_path / "b.png").mkdir()
    with pytest.raises(DataError, match=r"b.png as an image: it is not a regular file"):
        read_image(tmp_path / "b.png")


def test_one_limit_holds_and_it_is_not_pillows(tmp_path, monkeypatch):
    Image.fromarray(STORED).save(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 4)
    monkeypatch.setattr("atrous.images.reading._STRIP_PIXELS", 4)
    assert read_quietly(tmp_path / "a.png").shape == (3, 6, 4)
    with pytest.raises(DataError, match="4 × 6 pixels"):
        read_image(tmp_path / "a.png", max_pixels=23)
