"""Pictures in, masks and overlays out; bad pictures and bad requests."""

import errno
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from atrous.classes import VOID, build_classes
from atrous.data import open_dataset
from atrous.errors import AtrousError, ConfigError
from atrous.inference import predict, render
from atrous.inference.render import render_overlay, save_mask
from atrous.models import ModelCard, build_model, save_weights


def save_stripes(path: Path, width=48, height=40, **options):
    """Left half red, right half blue."""
    picture = Image.new("RGB", (width, height), "red")
    picture.paste("blue", (width // 2, 0, width, height))
    picture.save(path, **options)
    return path


def read_mask_file(path):
    with Image.open(path) as picture:
        assert picture.mode == "P"
        return np.array(picture), picture.getpalette()


def test_masks_hold_indices_and_the_palette_their_colors(color_model, tmp_path):
    picture = save_stripes(tmp_path / "a.png", 48, 40)
    report = predict(color_model, picture, tmp_path / "out")
    assert [path.name for path in report.written] == ["a.png", "a_overlay.jpg"]
    mask, palette = read_mask_file(tmp_path / "out" / "a.png")
    assert mask.shape == (40, 48)
    assert (mask[:, :24] == 0).all()
    assert (mask[:, 24:] == 2).all()
    assert palette[:9] == [255, 0, 0, 0, 255, 0, 0, 0, 255]


def test_folders_suffixes_broken_files_and_progress(color_model, tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    for name in ("b.JPG", "c.webp", "d.tiff", "e.bmp"):
        save_stripes(folder / name)
    (folder / "f.png").write_bytes(save_stripes(tmp_path / "whole.png").read_bytes()[:60])
    (folder / "g.jpg").write_text("not a picture")
    (folder / "notes.txt").write_text("not even meant to be one")
    done = []
    report = predict(
        color_model,
        [folder, folder / "b.JPG"],
        tmp_path / "out",
        progress=lambda *at: done.append(at),
    )
    assert len(report.written) == 8
    assert [path.name for path, _ in report.failed] == ["f.png", "g.jpg"]
    assert all(str(path) in reason for path, reason in report.failed)
    assert done == [(index, 6) for index in range(1, 7)]
    names = {f"{stem}{end}" for stem in "bcde" for end in (".png", "_overlay.jpg")}
    assert {path.name for path in (tmp_path / "out").iterdir()} == names


def test_pictures_are_turned_upright(color_model, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned a quarter clockwise
    picture = save_stripes(tmp_path / "a.jpg", 48, 40, exif=exif)
    predict(color_model, picture, tmp_path / "out")
    mask, _ = read_mask_file(tmp_path / "out" / "a.png")
    assert mask.shape == (48, 40)
    assert (mask[:20] == 0).all()


def test_requests_that_cannot_be_met_write_nothing(color_model, tmp_path):
    out = tmp_path / "out"
    (tmp_path / "x").mkdir()
    (tmp_path / "empty").mkdir()
    a_jpg, a_png = save_stripes(tmp_path / "a.jpg"), save_stripes(tmp_path / "a.png")
    other = save_stripes(tmp_path / "x" / "a.jpg")
    for pictures in ([a_jpg, a_png], [a_jpg, other]):
        with pytest.raises(ConfigError, match="both be written to"):
            predict(color_model, pictures, out)
    with pytest.raises(ConfigError, match="overwrite the picture"):
        predict(color_model, a_png, tmp_path)
    with pytest.raises(ConfigError, match="no pictures in"):
        predict(color_model, tmp_path / "empty", out)
    with pytest.raises(ConfigError, match="an empty list"):
        predict(color_model, [], out)
    with pytest.raises(ConfigError, match="no picture or folder"):
        predict(color_model, tmp_path / "nowhere", out)
    with pytest.raises(ConfigError, match="is a file"):
        predict(color_model, a_jpg, a_png)
    assert not out.exists()


def test_a_full_disk_leaves_whole_files_and_says_so(color_model, tmp_path, monkeypatch):
    pictures = [save_stripes(tmp_path / f"{stem}.jpg") for stem in "ab"]
    out = tmp_path / "out"

    def write(path, _):
        if path.name == "b_overlay.jpg":
            raise OSError(errno.ENOSPC, "No space left on device")
        path.touch()

    monkeypatch.setattr(render, "write_atomically", write)
    with pytest.raises(AtrousError, match=r"b\.jpg.*No space left.* 1 pictures before"):
        predict(color_model, pictures, out)


def test_a_run_folder_predicts_real_pictures_at_their_own_size(real_data, tmp_path):
    dataset = open_dataset(real_data / "camvid", "val")
    model = build_model("deeplabv3_mobilenet_v3_large", num_classes=len(dataset.classes))
    card = ModelCard(
        model.name, model.options, dataset.classes, (0.5,) * 3, (0.25,) * 3, (96, 128), {}
    )
    save_weights(tmp_path / "best.safetensors", model, card)
    pictures = dataset.image_paths[:2]
    report = predict(tmp_path, pictures, tmp_path / "out", device="cpu")
    assert (len(report.written), report.failed) == (4, [])
    for picture in pictures:
        mask, palette = read_mask_file(tmp_path / "out" / f"{picture.stem}.png")
        assert mask.shape == (360, 480)
        assert mask.max() < 11
        assert palette == dataset.classes.palette
        with Image.open(tmp_path / "out" / f"{picture.stem}_overlay.jpg") as overlay:
            assert overlay.width == 480
            assert overlay.height > 360


def test_overlays_tint_regions_and_leave_black_classes_and_void_alone():
    classes = build_classes(["background", "thing"], [(0, 0, 0), (200, 0, 0)])
    image = torch.full((3, 60, 90), 100, dtype=torch.uint8)
    mask = torch.zeros(60, 90, dtype=torch.uint8)
    mask[:, 30:60] = 1
    mask[:, 60:] = VOID
    overlay = np.array(render_overlay(image, mask, classes, opacity=0.5))
    assert (overlay[5, [10, 80]] == 100).all()
    assert overlay[5, 45].tolist() == [150, 50, 50]


@pytest.mark.parametrize("size", [(8, 8), (40, 400), (400, 40), (900, 1200)])
def test_the_legend_lies_below_and_fits_at_any_size(size):
    names = ["sky", "a class with a rather long name", "дорога"]
    mask = torch.arange(3, dtype=torch.uint8).repeat(size[0] * size[1])[: size[0] * size[1]]
    image = torch.zeros(3, *size, dtype=torch.uint8)
    overlay = render_overlay(image, mask.view(size), build_classes(names))
    assert overlay.width >= size[1]
    legend = np.array(overlay)[size[0] :]
    assert len(legend) >= 12
    assert (legend[:, -1] == 255).all(), "text runs over the right edge"
    assert (legend[-1] == 255).all(), "text runs over the lower edge"


def test_a_mask_of_no_class_still_renders():
    mask = torch.full((20, 20), VOID, dtype=torch.uint8)
    render_overlay(torch.zeros(3, 20, 20, dtype=torch.uint8), mask, build_classes(["a"]))


def test_saved_masks_read_back_as_they_were(tmp_path):
    mask = torch.randint(0, 256, (31, 17), dtype=torch.uint8)
    save_mask(tmp_path / "m.png", mask, build_classes(["a"]))
    assert np.array_equal(read_mask_file(tmp_path / "m.png")[0], mask.numpy())
