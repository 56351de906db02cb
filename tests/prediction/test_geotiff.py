"""GeoTIFFs: windowed reads, and outputs with their coordinates."""

import json
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

rasterio = pytest.importorskip("rasterio", reason="GeoTIFFs need rasterio")

from rasterio.features import rasterize  # noqa: E402
from rasterio.transform import from_origin  # noqa: E402

from atrous.engines import TTA, TorchEngine  # noqa: E402
from atrous.images import read_image  # noqa: E402
from atrous.prediction import predict, windowed_image  # noqa: E402

TRANSFORM = from_origin(500_000, 5_200_000, 0.5, 0.5)
HW = (300, 220)


@pytest.fixture
def band_model(color_model):
    """The model of colours, for three bands of uint16."""
    color_model.card = replace(color_model.card, ranges=((0.0, 1000.0),) * 3)
    return color_model


def write(path, array, **options):
    num_bands, height, width = array.shape
    with rasterio.open(
        path, "w", driver="GTiff", dtype=array.dtype, count=num_bands, height=height, width=width,
        **{"crs": "EPSG:32632", "transform": TRANSFORM, "tiled": True, "blockxsize": 64,
           "blockysize": 64} | options,
    ) as file:  # fmt: skip
        file.write(array)
    return path


def draw(dtype=np.uint16, high=1000):
    return np.random.default_rng(0).integers(1, high, (3, *HW)).astype(dtype)


def test_outputs_have_the_coordinates_and_windows_are_read(tmp_path, band_model, monkeypatch):
    array = draw()
    array[:, :20, :30] = 0
    path = write(tmp_path / "a.tif", array, nodata=0)
    sizes, read = [], windowed_image.WindowedImage._read

    def record(self, **options):
        found = read(self, **options)
        sizes.append(found.shape[1:])
        return found

    monkeypatch.setattr(windowed_image.WindowedImage, "_read", record)
    report = predict(
        band_model, path, tmp_path / "out", tta=TTA(window_px=64),
        save=["mask", "confidence", "geojson", "rle", "overlay", "shares"],
    )  # fmt: skip
    assert not report.failed
    assert {file.name for file in (tmp_path / "out").iterdir()} >= {
        "a.tif", "a_confidence.tif", "a.geojson", "a_rle.json", "a_overlay.jpg", "shares.csv"
    }  # fmt: skip
    assert max(max(size) for size in sizes[:-1]) <= 64  # the last is the overlay's
    expected = TorchEngine(band_model).predict_mask(read_image(path, bands=3)).numpy()
    expected[:20, :30] = 255
    with rasterio.open(tmp_path / "out/a.tif") as file:
        assert (file.crs.to_epsg(), file.transform, file.nodata) == (32632, TRANSFORM, 255)
        assert np.array_equal(file.read(1), expected)
        assert file.colormap(1)[1] == (0, 255, 0, 255)
    content = json.loads((tmp_path / "out/a.geojson").read_text())
    assert content["crs"]["properties"]["name"] == "urn:ogc:def:crs:EPSG::32632"
    shapes = [(one["geometry"], one["properties"]["index"]) for one in content["features"]]
    filled = rasterize(shapes, HW, fill=255, transform=TRANSFORM, dtype="uint8")
    assert np.array_equal(filled, expected)
    for feature in content["features"]:
        x, y = np.array(feature["geometry"]["coordinates"][0]).T
        assert (x[:-1] * y[1:] - x[1:] * y[:-1]).sum() > 0  # counterclockwise, with north up
    with Image.open(tmp_path / "out/a_overlay.jpg") as overlay:
        assert overlay.width == HW[1]
    assert predict(
        band_model, path, tmp_path / "out", tta=TTA(window_px=64), resume=True,
        save=["mask", "confidence", "geojson", "rle", "overlay", "shares"],
    ).resumed == [str(path)]  # fmt: skip


@pytest.mark.parametrize("kind", ["rgb", "grey", "alpha", "deep", "palette", "resized"])
def test_masks_are_those_of_the_image_read_whole(tmp_path, color_model, kind):
    array = draw(np.uint8, 255)
    options = {}
    if kind == "grey":
        array = array[:1]
    elif kind == "alpha":
        array = np.concatenate([array, np.full((1, *HW), 255, np.uint8)])
        array[3, 5:9] = 0
        options = {"photometric": "RGB", "alpha": "YES"}
    elif kind == "deep":
        array = array.astype(np.uint16) * 16
    elif kind == "palette":
        array, options = array[:1] % 4, {"photometric": "palette"}
    elif kind == "resized":
        color_model.card = replace(color_model.card, size_hw=(64, 64))
    path = write(tmp_path / "a.tif", array, **options)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = TorchEngine(color_model).predict_mask(read_image(path)).numpy()
        assert not predict(color_model, path, tmp_path / "out", save=["mask"]).failed
    if kind == "alpha":
        expected[5:9] = 255
    with rasterio.open(tmp_path / "out/a.tif") as file:
        assert np.array_equal(file.read(1), expected)


def test_what_is_not_possible_is_said(tmp_path, band_model, monkeypatch):
    path = write(tmp_path / "a.tif", draw())
    four = write(tmp_path / "four.tif", np.concatenate([draw(), draw()[:1]]))
    report = predict(band_model, [path, four], tmp_path / "out", save=["probs"])
    assert "probabilities of all classes are not written" in report.failed[0][1]
    report = predict(band_model, [four], tmp_path / "out", save=["mask"])
    assert "has 4 bands, where 3 were expected" in report.failed[0][1]
    assert not list((tmp_path / "out").glob(".*"))
    cut = tmp_path / "cut.tif"
    cut.write_bytes(path.read_bytes()[:60_000])
    report = predict(band_model, [cut], tmp_path / "out", save=["mask"])
    assert "cut.tif" in report.failed[0][1]
    assert not (tmp_path / "out/cut.tif").exists()


def test_pixels_that_are_nan_are_255(tmp_path, band_model):
    array = draw().astype(np.float32)
    array[1, 50:60, 50:60] = np.nan
    path = write(tmp_path / "a.tif", array)
    predict(band_model, path, tmp_path / "out", save=["mask"], tta=TTA(window_px=64))
    with rasterio.open(tmp_path / "out/a.tif") as file:
        assert np.argwhere(file.read(1) == 255).tolist() == np.argwhere(np.isnan(array[1])).tolist()


def test_a_tiff_without_coordinates_has_a_png(tmp_path, band_model):
    torch.manual_seed(0)
    path = write(tmp_path / "a.tif", draw(), crs=None, transform=None)
    report = predict(band_model, path, tmp_path / "out", save=["mask"])
    assert [file.name for file in report.written] == ["a.png"]
