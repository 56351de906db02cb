"""Images that are not 8-bit RGB, from `check` to the server."""

import json

import httpx
import numpy as np
import pytest
import tifffile
from PIL import Image

from atrous.data.shapes import draw_scene
from atrous.engines import open_engine
from atrous.images import read_image
from atrous.models.weights import load_card
from atrous.training.plan import Plan

NAMES = ["background", "disc", "ring", "square", "triangle", "star", "arrow", "moon"]
SIDE_PX = 64


def save_bands(path, deep):
    """Save four bands of uint16 in planes, with a corner without data."""
    four = np.dstack([deep, deep[..., :1] // 2 + 50])
    four[:9, :9] = 0
    extra = [(42113, "s", 0, "0", True)]  # GDAL's nodata
    tifffile.imwrite(
        path, np.moveaxis(four, -1, 0), planarconfig="separate", photometric="minisblack",
        compression="zlib", extratags=extra,
    )  # fmt: skip


def save_grey(path, deep):
    """Save one band of 12 bits."""
    Image.fromarray(deep[..., 1]).save(path)


KINDS = {"bands": (".tif", save_bands, 4), "grey": (".png", save_grey, 1)}


@pytest.fixture(params=KINDS)
def dataset(request, tmp_path):
    """A folder of a dataset, and its number of bands."""
    suffix, save, num_bands = KINDS[request.param]
    for split, numbers in {"train": range(6), "val": range(6, 8)}.items():
        for kind in ("images", "masks"):
            (tmp_path / "data" / split / kind).mkdir(parents=True)
        for number in numbers:
            image, mask = draw_scene(np.random.default_rng((3, number)), SIDE_PX)
            folder = tmp_path / "data" / split
            save(folder / f"images/{number}{suffix}", image.astype(np.uint16) * 13 + 200)
            Image.fromarray(mask).save(folder / f"masks/{number}.png")
    (tmp_path / "data/classes.toml").write_text(f"names = {json.dumps(NAMES)}\n")
    return tmp_path / "data", num_bands


def post(engine, content):
    """Send a file to a server of one model."""
    from atrous.serve.app import build_app
    from atrous.serve.limits import Limits
    from atrous.serve.service import Service

    async def send():
        transport = httpx.ASGITransport(build_app(service, None))
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            return await client.post("/v1/segment", content=content)

    import asyncio

    service = Service({"model": lambda: engine}, Limits())
    service.load()
    try:
        return asyncio.run(send())
    finally:
        service.stop()


@pytest.mark.slow
def test_bands_from_check_to_the_server(dataset, atrous, tmp_path):
    data, num_bands = dataset
    run, images = tmp_path / "run", data / "val/images"
    code, printed = atrous("check", data, "--crop", 48, "--workers", 1)
    assert code == 0, printed
    assert f"images of {'4 bands' if num_bands == 4 else '1 band'} of uint16" in printed
    assert ("(nodata)" in printed) == (num_bands == 4)
    options = [
        "--model", "deeplabv3plus_mobilenet_v3_large", "--set", "model.decoder_channels=8",
        "--set", "data.saturation=0", "--set", "data.hue=0", "--crop", 48, "--for", "5it",
        "--batch-size", 3, "--workers", 0, "--device", "cpu", "--out", run,
    ]  # fmt: skip
    code, printed = atrous("train", data, *options)
    assert code == 0, printed
    assert f"Images of {num_bands} band" in printed
    assert ("pixels have no data" in printed) == (num_bands == 4)
    card = load_card(run / "best.safetensors")
    assert card.options["in_channels"] == len(card.ranges) == len(card.mean) == num_bands
    assert Plan.load(run / "plan.json").bands.ranges == card.ranges
    assert all(200 <= low < high <= 3515 for low, high in card.ranges[:3])

    code, printed = atrous("evaluate", run, "--device", "cpu")
    assert code == 0, printed
    code, printed = atrous("predict", run, images, "--out", tmp_path / "out", "--device", "cpu")
    assert code == 0, printed
    engine = open_engine(run, device="cpu")
    path = next(images.iterdir())
    mask = np.asarray(Image.open(tmp_path / f"out/{path.stem}.png"))
    expected = engine.predict_mask(read_image(path, bands=num_bands)).numpy()
    if num_bands == 4:
        assert (mask[:9, :9] == 255).all()
        expected[:9, :9] = 255
    assert np.array_equal(mask, expected)
    assert Image.open(tmp_path / f"out/{path.stem}_overlay.jpg").mode == "RGB"

    code, printed = atrous("export", run, "--to", "onnx")
    assert code == 0, printed
    assert open_engine(run, "onnx").card.ranges == card.ranges
    code, printed = atrous("export", run, "--to", "onnx", "--uint8")
    assert (code, "--uint8 is for models of 8-bit RGB images" in printed) == (2, True)
    response = post(engine, path.read_bytes())
    assert response.status_code == 200
    assert np.array_equal(np.asarray(Image.open(response)), mask)
    rgb = tmp_path / "rgb.png"
    Image.new("RGB", (64, 64)).save(rgb)
    assert f"has 3 bands, where {num_bands}" in post(engine, rgb.read_bytes()).text


def test_a_resumed_run_has_the_ranges_it_began_with(dataset, atrous, tmp_path):
    data, _ = dataset
    run = tmp_path / "run"
    options = [
        "train", data, "--model", "deeplabv3plus_mobilenet_v3_large", "--crop", 32, "--for", "2it",
        "--batch-size", 2, "--workers", 0, "--device", "cpu", "--out", run,
        "--set", "data.saturation=0", "--set", "data.hue=0",
    ]  # fmt: skip
    code, printed = atrous(*options, "--stop-after", "0s")
    plan = (run / "plan.json").read_text()
    (data / "classes.toml").write_text(
        (data / "classes.toml").read_text() + f"bands = {dataset[1]}\nrange = [0, 9]\n"
    )
    code, printed = atrous(*options)
    assert code == 0, printed
    assert (run / "plan.json").read_text() == plan
