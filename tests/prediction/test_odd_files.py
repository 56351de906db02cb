"""Pages, dead links, unusual names, and folders that must not be written to."""

import io
import json
import os
import zipfile
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from atrous.classes import build_classes
from atrous.errors import AtrousWarning, ConfigError
from atrous.fonts import find_font
from atrous.images import read_image
from atrous.prediction import predict, predict_stream
from atrous.prediction.predict import LEGEND
from atrous.prediction.sources import find_sources

COLORS = ["red", "lime", "blue"]


def encode_pages(format: str, **options) -> bytes:
    first, *others = (Image.new("RGB", (40, 32), color) for color in COLORS)
    file = io.BytesIO()
    first.save(file, format, save_all=True, append_images=others, **options)
    return file.getvalue()


def save_image(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (40, 32), "blue").save(path)
    return path


def read_class(path) -> int:
    with Image.open(path) as mask:
        (values,) = np.unique(mask).tolist()
    return values


@pytest.mark.parametrize(
    ("name", "format"),
    [("a.tif", "TIFF"), ("a.gif", "GIF"), ("a.webp", "WEBP"), ("a.png", "PNG"), ("a.x", "TIFF")],
)
def test_every_page_is_an_image_of_its_own(color_model, tmp_path, name, format):
    path = tmp_path / name
    path.write_bytes(encode_pages(format, **({"lossless": True} if format == "WEBP" else {})))
    out = tmp_path / "out"
    report = predict(color_model, path, out, save=["mask", "shares"])
    masks = [out / f"a_p000{number}.png" for number in (1, 2, 3)]
    assert report.written == masks
    assert [read_class(mask) for mask in masks] == [0, 1, 2]
    lines = (out / "shares.csv").read_text().splitlines()[1:]
    assert [line.split('"')[1] for line in lines] == [f"{path}, page {n}" for n in (1, 2, 3)]
    masks[1].unlink()
    again = predict(color_model, path, out, save=["mask"], resume=True)
    assert (again.written, len(again.resumed)) == ([masks[1]], 2)
    predict(color_model, path, out, save=["mask"], full_names=True)
    assert len(list(out.rglob(f"a_p000?{path.suffix}.png"))) == 3


@pytest.mark.parametrize("format", ["GIF", "WEBP", "PNG"])
def test_frames_of_an_animation_are_decoded_once_and_as_when_read_alone(
    tmp_path, monkeypatch, format
):
    frames = [
        Image.fromarray(np.random.default_rng(page).integers(0, 256, (9, 12, 3), np.uint8))
        for page in range(12)
    ]
    exif = Image.Exif()
    exif[0x0112] = 6
    path = tmp_path / f"a.{format.lower()}"
    frames[0].save(path, save_all=True, append_images=frames[1:], exif=exif, disposal=1)
    sources = find_sources([path])
    alone = [read_image(path, page=page) for page in range(12)]
    seeks, plugin = [], type(Image.open(path))
    seek = plugin.seek
    monkeypatch.setattr(
        plugin, "seek", lambda self, page: (seeks.append(page - self.tell()), seek(self, page))
    )
    for page in (*range(12), 3):
        assert torch.equal(read_image(sources[page].fetch(), page=sources[page].page), alone[page])
    assert seeks == [0, *11 * [1], 3]


def test_pages_of_an_archive_and_of_standard_input(color_model, tmp_path, monkeypatch):
    with zipfile.ZipFile(tmp_path / "z.zip", "w") as archive:
        for name in ("x/a.tif", "b.tif"):
            archive.writestr(name, encode_pages("TIFF"))
    stdin = io.TextIOWrapper(io.BytesIO(encode_pages("TIFF")))
    monkeypatch.setattr("sys.stdin", stdin)
    report = predict(color_model, [tmp_path / "z.zip", "-"], tmp_path / "out", save=["mask"])
    written = {path.relative_to(tmp_path / "out").as_posix(): path for path in report.written}
    stems = ("z/x/a", "z/b", "stdin")
    assert [*written] == [f"{stem}_p000{number}.png" for stem in stems for number in (1, 2, 3)]
    assert [read_class(path) for path in written.values()] == 3 * [0, 1, 2]


def test_a_page_does_not_take_the_name_of_another_file(color_model, tmp_path):
    (tmp_path / "a.tif").write_bytes(encode_pages("TIFF"))
    save_image(tmp_path / "a_p0002.png")
    with pytest.raises(ConfigError, match=r"a.tif, page 2 and .* would both be written"):
        predict(color_model, [tmp_path / "a.tif", tmp_path / "a_p0002.png"], tmp_path / "out")


def test_a_stream_takes_the_first_page_and_says_so(color_model):
    target = io.BytesIO()
    with pytest.warns(AtrousWarning, match="stdin holds more than one page"):
        predict_stream(color_model, io.BytesIO(encode_pages("TIFF")), target)
    assert read_class(target) == 0


@pytest.mark.parametrize("given", ["photos", "photos/*.png", "all"])
def test_dead_links_are_skipped_with_the_reason(color_model, tmp_path, monkeypatch, given):
    monkeypatch.chdir(tmp_path)
    paths = [save_image(tmp_path / "photos/a.png"), tmp_path / "photos/b.png"]
    paths[1].symlink_to("gone.png")
    (tmp_path / "photos/loop.png").symlink_to("loop.png")
    report = predict(color_model, paths if given == "all" else given, "out", save=["mask"])
    assert [path.name for path in report.written] == ["a.png"]
    failed = {source.rsplit("/", 1)[-1]: message for source, message in report.failed}
    assert "It is a link to a file that does not exist" in failed["b.png"]
    assert ("loop.png" in failed) == (given != "all")


def test_names_too_long_for_their_outputs_are_skipped_and_others_are_whole(color_model, tmp_path):
    for stem in ("a", "n" * 240, "n" * 245):  # with _overlay.jpg, 252 and 257 bytes of at most 255
        save_image(tmp_path / "photos" / f"{stem}.png")
    report = predict(color_model, tmp_path / "photos", tmp_path / "out")
    assert [len(path.stem) for path in report.written] == [1, 9, 240, 248]
    ((source, message),) = report.failed
    assert source.endswith(f"{'n' * 245}.png")
    assert "too long a name for the file system" in message
    assert not [path for path in (tmp_path / "out").iterdir() if "n" * 241 in path.name]
    assert find_sources([save_image(tmp_path / "a.png")])
    with pytest.raises(ConfigError, match="no image or folder"):
        find_sources(["n" * 300])


def test_names_that_are_not_utf8_are_kept(color_model, tmp_path):
    name = os.fsdecode(b"stra\xdfe")
    save_image(tmp_path / "photos" / f"{name}.png")
    kinds = ["mask", "rle", "geojson", "shares"]
    out = tmp_path / "out"
    report = predict(color_model, tmp_path / "photos", out, save=kinds)
    assert [path.name for path in report.written] == [
        f"{name}.png", f"{name}_rle.json", f"{name}.geojson",
    ]  # fmt: skip
    assert json.loads((out / f"{name}_rle.json").read_bytes())["image"].endswith(f"{name}.png")
    assert r"stra\udcdfe" in (out / "shares.csv").read_text(encoding="utf-8")
    assert predict(color_model, tmp_path / "photos", out, save=kinds, resume=True).written == []


def test_predictions_never_land_among_the_files_of_a_dataset(color_model, tmp_path):
    photo = save_image(tmp_path / "photos/0.jpg")
    for name in ("train/images", "train/masks", "voc/SegmentationClass", "voc/JPEGImages"):
        save_image(tmp_path / name / "0.png")
    (tmp_path / "voc/ImageSets/Segmentation").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "train/masks")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.png")}
    for out in ("train/masks", "train/images", "voc/SegmentationClass", "voc/JPEGImages", "link"):
        with pytest.raises(ConfigError, match="among the files of the dataset's folder"):
            predict(color_model, photo, tmp_path / out)
    with zipfile.ZipFile(tmp_path / "masks.zip", "w") as archive:
        archive.write(photo, "0.jpg")
    with pytest.raises(ConfigError, match="among the files of the dataset's folder"):
        predict(color_model, tmp_path / "masks.zip", tmp_path / "train")
    assert {path: path.read_bytes() for path in tmp_path.rglob("*.png")} == before
    for _ in range(2):  # twice: masks for images that have none
        save_image(tmp_path / "new/images/1.png")
        report = predict(
            color_model, tmp_path / "new/images", tmp_path / "new/masks", save=["mask"]
        )
        assert [path.name for path in report.written] == ["1.png"]


def test_class_names_that_cannot_be_drawn_stand_beside_the_overlays(
    color_model, tmp_path, monkeypatch
):
    classes = build_classes(["背景", "物体", "blue"], [(255, 0, 0), (0, 255, 0), (0, 0, 255)])
    monkeypatch.setattr(color_model, "card", replace(color_model.card, classes=classes))
    monkeypatch.setattr("matplotlib.font_manager.fontManager.ttflist", [])
    find_font.cache_clear()
    photo, out = save_image(tmp_path / "a.png"), tmp_path / "out"
    with pytest.warns(AtrousWarning, match="2 of the 3 class names, such as 背景") as caught:
        predict(color_model, photo, out)
    assert len([one for one in caught if one.category is AtrousWarning]) == 1
    lines = (out / LEGEND).read_text(encoding="utf-8").splitlines()
    assert lines == ["0: 背景, #ff0000", "1: 物体, #00ff00", "2: blue, #0000ff"]
    predict(color_model, photo, tmp_path / "masks", save=["mask"])
    assert not (tmp_path / "masks" / LEGEND).exists()
    find_font.cache_clear()
