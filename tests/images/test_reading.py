import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from atrous.classes import IGNORE_INDEX, voc_color
from atrous.data import read_mask
from atrous.errors import AtrousWarning, DataError
from atrous.images import read_image

RED = (200, 30, 40)


def save(path: Path, pixels: np.ndarray, mode: str | None = None, **options) -> Path:
    image = Image.fromarray(pixels)
    (image.convert(mode) if mode else image).save(path, **options)
    return path


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P", "CMYK", "L", "LA", "1"])
def test_every_mode_of_image_becomes_rgb(tmp_path, mode):
    path = tmp_path / "image.tif"
    save(path, np.full((4, 6, 3), RED, dtype=np.uint8), mode)
    image = read_image(path)
    assert (image.shape, str(image.dtype)) == ((3, 4, 6), "torch.uint8")
    if mode in ("RGB", "RGBA", "CMYK"):
        assert image[:, 0, 0].tolist() == pytest.approx(RED, abs=2)


def test_8_bit_rgb_of_16_bit_images_has_the_highest_8_of_the_bits_that_are_used(tmp_path):
    path = save(tmp_path / "deep.png", np.array([[0, 256, 65535]], dtype=np.uint16))
    with pytest.warns(AtrousWarning, match="the highest 8 bits are kept"):
        assert read_image(path)[0].tolist() == [[0, 1, 255]]
    path = save(tmp_path / "12_bits.png", np.array([[0, 16, 4095]], dtype=np.uint16))
    with pytest.warns(AtrousWarning, match="more than 8 bits"):
        assert read_image(path)[:, 0].tolist() == [[0, 1, 255]] * 3


@pytest.mark.parametrize("mode", ["L", "P"])
def test_masks_keep_their_indices(tmp_path, mode):
    indices = np.array([[0, 1, 2], [20, 255, 7]], dtype=np.uint8)
    image = Image.fromarray(indices)
    if mode == "P":
        image.putpalette([channel for index in range(256) for channel in voc_color(index)])
    image.save(tmp_path / "mask.png")
    mask = read_mask(tmp_path / "mask.png", num_classes=21)
    assert mask.dtype == torch.uint8
    assert np.array_equal(mask.numpy(), indices)


def test_masks_of_1_and_16_bits(tmp_path):
    one = save(tmp_path / "one.png", np.array([[False, True]]))
    assert read_mask(one, num_classes=2).tolist() == [[0, 1]]
    sixteen = save(tmp_path / "sixteen.png", np.array([[3, 255]], dtype=np.uint16))
    assert read_mask(sixteen, num_classes=4).tolist() == [[3, IGNORE_INDEX]]


@pytest.mark.parametrize(
    ("name", "kind", "ignore_index"),
    [
        ("mask.png", np.uint8, 11),
        ("mask.png", np.uint16, 65535),
        ("mask.tif", np.int32, -1),
        ("mask.tif", np.int32, 70000),
    ],
)
def test_the_ignore_index_and_no_other_value_is_ignored(tmp_path, name, kind, ignore_index):
    path = save(tmp_path / name, np.array([[0, ignore_index, 10]], kind))
    assert read_mask(path, num_classes=11, ignore_index=ignore_index).tolist() == [
        [0, IGNORE_INDEX, 10]
    ]
    save(path, np.array([[0, ignore_index, 255]], kind))
    with pytest.raises(DataError, match="no class: 255, where 0 to 10 are classes"):
        read_mask(path, num_classes=11, ignore_index=ignore_index)
    with pytest.raises(DataError, match=f"--ignore-index {ignore_index}`"):
        read_mask(path, num_classes=11)


def truncated(path: Path) -> None:
    data = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(data, "PNG" if path.suffix == ".png" else "JPEG")
    path.write_bytes(data.getvalue()[: data.tell() // 2])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: None, "There is no file"),
        (lambda path: path.write_text("not an image"), "it is a text file"),
        (lambda path: path.write_bytes(b""), "it is an empty file"),
        (truncated, "Cannot read .* as an image"),
    ],
)
@pytest.mark.parametrize("name", ["bad.jpg", "bad.png"])
def test_unreadable_files_are_named(tmp_path, make, message, name):
    path = tmp_path / name
    make(path)
    for read in (read_image, lambda path: read_mask(path, num_classes=2)):
        with pytest.raises(DataError, match=message) as caught:
            read(path)
        assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("name", "pixels", "message"),
    [
        ("float.tif", np.zeros((2, 2), np.float32), "mask .* holds floating point numbers"),
        ("rgb.png", np.zeros((2, 2, 3), np.uint8), "RGB mask where indices were expected"),
        ("rgba.png", np.zeros((2, 2, 4), np.uint8), "RGB mask where indices were expected"),
        ("lossy.jpg", np.zeros((2, 2), np.uint8), "JPEG, which changes pixel values"),
        (
            "high.png",
            np.array([[0, 3, 7, 7]], np.uint8),
            "no class: 3, 7, where 0 to 2 are classes",
        ),
        ("deep.png", np.array([[0, 900]], np.uint16), "no class: 900, .*--ignore-index 900"),
    ],
)
def test_wrong_masks_say_what_is_wrong(tmp_path, name, pixels, message):
    path = save(tmp_path / name, pixels)
    with pytest.raises(DataError, match=message) as caught:
        read_mask(path, num_classes=3)
    assert str(path) in str(caught.value)


def test_8_bit_rgb_of_floating_point_images_is_scaled_by_percentiles(tmp_path):
    path = save(tmp_path / "float.tif", np.linspace(-1, 3, 6, dtype=np.float32).reshape(2, 3))
    with pytest.warns(AtrousWarning, match="percentiles 0.5 and 99.5"):
        assert read_image(path)[0].tolist() == [[0, 50, 101], [153, 204, 255]]
