"""Images at their own depth, against rasterio, tifffile, NumPy and Pillow."""

import io
import warnings

import numpy as np
import pytest
import rasterio
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from atrous.errors import DataError
from atrous.images import read_image
from atrous.images.arrays import open_array
from atrous.images.image_file import read_image_size

warnings.filterwarnings("ignore", category=rasterio.errors.NotGeoreferencedWarning)

bounded = settings(
    deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
DTYPES = ["uint8", "int8", "uint16", "int16", "float32"]


def draw(dtype, num_bands, size_hw, seed=0):
    rng = np.random.default_rng(seed)
    shape = (num_bands, *size_hw)
    if dtype.startswith("f"):
        return rng.normal(0, 1e4, shape).astype(dtype)
    limits = np.iinfo(dtype)
    return rng.integers(limits.min, limits.max, shape, dtype=dtype, endpoint=True)


def read(path, num_bands):
    """Read from the path and from a file object."""
    image = read_image(path, bands=num_bands).numpy()
    assert np.array_equal(
        image, read_image(io.BytesIO(path.read_bytes()), name="a", bands=num_bands)
    )
    assert (str(image.dtype), image.shape[1:]) == ("float32", read_image_size(path))
    return image


@bounded
@given(
    dtype=st.sampled_from(DTYPES),
    num_bands=st.integers(1, 6),
    size_hw=st.tuples(st.integers(5, 40), st.integers(5, 40)),
    interleave=st.sampled_from(["pixel", "band"]),
    compress=st.sampled_from([None, "deflate", "lzw", "zstd"]),
    tiled=st.booleans(),
    bigtiff=st.booleans(),
)
def test_tiffs_of_gdal(tmp_path, dtype, num_bands, size_hw, interleave, compress, tiled, bigtiff):
    path, array = tmp_path / "a.tif", draw(dtype, num_bands, size_hw)
    blocks = {"tiled": True, "blockxsize": 16, "blockysize": 32} if tiled else {}
    options = {"compress": compress} if compress else {}
    with rasterio.open(
        path, "w", driver="GTiff", dtype=dtype, count=num_bands, height=size_hw[0],
        width=size_hw[1], interleave=interleave, BIGTIFF="YES" if bigtiff else "NO",
        **blocks, **options,
    ) as file:  # fmt: skip
        file.write(array)
    assert np.array_equal(read(path, num_bands), array)


@bounded
@given(
    dtype=st.sampled_from(DTYPES),
    num_bands=st.integers(1, 5),
    byteorder=st.sampled_from("<>"),
    pages=st.booleans(),
)
def test_tiffs_of_tifffile_with_bands_in_planes_or_pages(
    tmp_path, dtype, num_bands, byteorder, pages
):
    path, array = tmp_path / "a.tif", draw(dtype, num_bands, (9, 7))
    with tifffile.TiffWriter(path, byteorder=byteorder) as file:
        if pages:
            for band in array:
                file.write(band, photometric="minisblack", contiguous=False)
        else:
            planes = {"planarconfig": "separate"} if num_bands > 1 else {}
            squeezed = array[0] if num_bands == 1 else array
            file.write(squeezed, photometric="minisblack", **planes)
    assert np.array_equal(read(path, num_bands), array)


@bounded
@given(
    dtype=st.sampled_from([*DTYPES, "float64", "float16", ">u2"]),
    num_bands=st.integers(1, 4),
    first=st.booleans(),
)
def test_numpy_arrays(tmp_path, dtype, num_bands, first):
    array = draw("uint8", num_bands, (9, 7)).astype(dtype)
    path = tmp_path / "a.npy"
    np.save(path, array if first else np.moveaxis(array, 0, -1))
    assert np.array_equal(read(path, num_bands), array)


@pytest.mark.parametrize("num_bands", [1, 3, 4])
def test_16_bit_pngs(tmp_path, num_bands):
    path, array = tmp_path / "a.png", draw("uint16", num_bands, (11, 8))
    with rasterio.open(
        path, "w", driver="PNG", dtype="uint16", count=num_bands, height=11, width=8
    ) as file:
        file.write(array)
    assert np.array_equal(read(path, num_bands), array)
    if num_bands == 4:  # transparency, unless four bands are expected
        assert open_array(path, "a").num_bands == 3
        assert np.array_equal(read(path, 3), array[:3])


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientations(tmp_path, orientation):
    pixels = draw("uint8", 1, (6, 4))[0]
    Image.fromarray(pixels).save(tmp_path / "eight.tif", tiffinfo={274: orientation})
    deep = pixels.astype(np.uint16)
    tifffile.imwrite(tmp_path / "deep.tif", deep, extratags=[(274, 3, 1, orientation, True)])
    exif = Image.Exif()
    exif[274] = orientation
    Image.fromarray(deep).save(tmp_path / "deep.png", exif=exif)
    upright = read_image(tmp_path / "eight.tif")[0]
    for name in ("deep.tif", "deep.png"):
        assert np.array_equal(read_image(tmp_path / name, bands=1)[0], upright)


@pytest.mark.parametrize("mode", ["L", "RGB", "P", "CMYK", "1", "LA", "RGBA"])
def test_what_pillow_reads_without_loss_stays_8_bit_rgb(tmp_path, mode):
    image = Image.fromarray(draw("uint8", 3, (6, 4)).transpose(1, 2, 0)).convert(mode)
    for name in ("a.tif", "a.png"):
        if (mode, name) != ("CMYK", "a.png"):
            image.save(tmp_path / name)
            assert open_array(tmp_path / name, "a") is None


def test_the_fourth_band_of_8_bits_is_a_band_unless_it_is_transparency(tmp_path):
    array = draw("uint8", 4, (6, 4))
    for extra, expected in (("unspecified", 4), ("unassalpha", None)):
        path = tmp_path / f"{extra}.tif"
        tifffile.imwrite(path, array.transpose(1, 2, 0), photometric="rgb", extrasamples=[extra])
        opened = open_array(path, "a")
        assert (opened and opened.num_bands) == expected
        assert np.array_equal(read(path, 4), array)


def test_pixels_without_data_are_nan(tmp_path):
    array = draw("float32", 2, (6, 4))
    array[0, 0, 0], array[1, 2, 3], array[:, 4, 1], array[0, 5, 0] = np.nan, np.inf, -9999, -9999
    path = tmp_path / "a.tif"
    with rasterio.open(
        path, "w", driver="GTiff", dtype="float32", count=2, height=6, width=4, nodata=-9999
    ) as file:
        file.write(array)
    missing = np.isnan(read_image(path, bands=2).numpy())
    assert np.array_equal(missing[0], missing[1])
    assert np.argwhere(missing[0]).tolist() == [[0, 0], [2, 3], [4, 1]]


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((4, 5), np.complex64), "64-bit complex numbers"),
        (np.zeros((4, 5), np.int32), "32-bit whole numbers"),
        (np.zeros((4, 5), object), "Python objects"),
        (np.zeros((4, 5, 4)), "the shape"),
        (np.zeros(7), "the shape"),
        (np.zeros((4, 5, 3), np.uint16), "has 3 bands, where 4 were expected"),
    ],
)
def test_other_arrays_are_refused(tmp_path, array, message):
    np.save(tmp_path / "a.npy", array)
    with pytest.raises(DataError, match=message) as caught:
        read_image(tmp_path / "a.npy", bands=4)
    assert str(tmp_path / "a.npy") in str(caught.value)


def test_damaged_files_and_bombs_are_refused(tmp_path):
    tifffile.imwrite(
        tmp_path / "a.tif", draw("uint16", 1, (40, 40))[0], compression="zlib", rowsperstrip=40
    )
    np.save(tmp_path / "b.npy", draw("float32", 2, (9, 9)))
    for path in tmp_path.iterdir():
        whole = path.read_bytes()
        path.write_bytes(whole[: len(whole) // 2])
        with pytest.raises(DataError, match=path.name):
            read_image(path, bands=1)
    bomb = io.BytesIO()
    tifffile.imwrite(bomb, np.zeros((900, 900), np.uint16), compression="zlib", rowsperstrip=900)
    content = bomb.getvalue()
    with tifffile.TiffFile(io.BytesIO(content)) as file:
        place = file.pages.first.tags["ImageLength"].valueoffset
    small = content[:place] + (9).to_bytes(2, "little") + content[place + 2 :]
    with pytest.raises(DataError, match="larger than its header states"):
        read_image(io.BytesIO(small), name="a", bands=1)


def test_the_limit_of_pixels_holds(tmp_path):
    np.save(tmp_path / "a.npy", draw("float32", 1, (9, 9))[0])
    with pytest.raises(DataError, match="states 9 × 9 pixels"):
        read_image(tmp_path / "a.npy", bands=1, max_pixels=80)
