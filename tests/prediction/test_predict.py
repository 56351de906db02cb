"""Prediction of images: outputs, resume, invalid images and options."""

import csv
import errno
import io
import json
import threading
import zipfile
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from atrous.classes import IGNORE_INDEX, build_classes
from atrous.data import open_dataset
from atrous.engines import TTA, TorchEngine
from atrous.engines.logits import compute_confidence
from atrous.errors import AtrousError, AtrousWarning, ConfigError, DataError, WeightsError
from atrous.models import ModelCard, build_model, save_weights
from atrous.prediction import compute_prediction, outputs, predict, predict_stream
from atrous.prediction.render import render_overlay, write_mask


def save_stripes(path: Path, width=48, height=40, **options):
    """Left half red, right half blue."""
    image = Image.new("RGB", (width, height), "red")
    image.paste("blue", (width // 2, 0, width, height))
    image.save(path, **options)
    return path


def list_files(folder):
    """Return the output files, without `predictions.jsonl`."""
    paths = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return {path.as_posix() for path in paths} - {"predictions.jsonl"}


def read_mask_file(path):
    with Image.open(path) as image:
        assert image.mode == "P"
        return np.array(image), image.getpalette()


def test_masks_hold_indices_and_the_palette_their_colors(color_model, tmp_path):
    image = save_stripes(tmp_path / "a.png", 48, 40)
    report = predict(color_model, image, tmp_path / "out")
    assert [path.name for path in report.written] == ["a.png", "a_overlay.jpg"]
    mask, palette = read_mask_file(tmp_path / "out" / "a.png")
    assert mask.shape == (40, 48)
    assert (mask[:, :24] == 0).all()
    assert (mask[:, 24:] == 2).all()
    assert palette[:9] == [255, 0, 0, 0, 255, 0, 0, 0, 255]


def test_folders_suffixes_broken_files_and_progress(color_model, tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    for name in ("b.JPG", "c.webp", "d.tiff", "e.bmp"):
        save_stripes(folder / name)
    (folder / "f.png").write_bytes(save_stripes(tmp_path / "whole.png").read_bytes()[:60])
    (folder / "g.jpg").write_text("not an image")
    (folder / "notes.txt").write_text("not even meant to be one")
    done = []
    report = predict(
        color_model,
        [folder, folder / "b.JPG"],
        tmp_path / "out",
        progress=lambda *at: done.append(at),
    )
    assert len(report.written) == 8
    assert [source for source, _ in report.failed] == [str(folder / "f.png"), str(folder / "g.jpg")]
    assert all(source in reason for source, reason in report.failed)
    assert report.num_frames == 4
    assert done == [(index, 6) for index in range(1, 7)]
    names = {f"{stem}{end}" for stem in "bcde" for end in (".png", "_overlay.jpg")}
    assert list_files(tmp_path / "out") == names


def test_images_that_are_nearly_black_are_named_and_12_bits_are_not(color_model, tmp_path):
    save_stripes(tmp_path / "good.png")
    pixels = np.random.default_rng(0).integers(0, 4096, (40, 48)).astype(np.uint16)
    Image.fromarray(pixels).save(tmp_path / "deep.png")
    Image.fromarray((pixels >> 8).astype(np.uint8)).save(tmp_path / "dark.png")
    paths = [tmp_path / f"{name}.png" for name in ("good", "deep", "dark")]
    with pytest.warns(AtrousWarning, match="more than 8 bits"):
        report = predict(color_model, paths, tmp_path / "out")
    assert report.nearly_black == [str(tmp_path / "dark.png")]


def test_images_are_turned_upright(color_model, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned a quarter clockwise
    image = save_stripes(tmp_path / "a.jpg", 48, 40, exif=exif)
    predict(color_model, image, tmp_path / "out")
    mask, _ = read_mask_file(tmp_path / "out" / "a.png")
    assert mask.shape == (48, 40)
    assert (mask[:20] == 0).all()


def test_requests_that_cannot_be_met_write_nothing(color_model, tmp_path):
    out = tmp_path / "out"
    (tmp_path / "x").mkdir()
    (tmp_path / "empty").mkdir()
    a_jpg, a_png = save_stripes(tmp_path / "a.jpg"), save_stripes(tmp_path / "a.png")
    other = save_stripes(tmp_path / "x" / "a.jpg")
    for images in ([a_jpg, a_png], [a_jpg, other]):
        with pytest.raises(ConfigError, match="both be written to"):
            predict(color_model, images, out)
    with pytest.raises(ConfigError, match="overwrite the image"):
        predict(color_model, a_png, tmp_path)
    with pytest.raises(ConfigError, match="no images in"):
        predict(color_model, tmp_path / "empty", out)
    with pytest.raises(ConfigError, match="an empty list"):
        predict(color_model, [], out)
    with pytest.raises(ConfigError, match="no image or folder"):
        predict(color_model, tmp_path / "nowhere", out)
    with pytest.raises(ConfigError, match="is a file"):
        predict(color_model, a_jpg, a_png)
    for options, message in (
        ({"save": ["msk"]}, "Did you mean 'mask'"),
        ({"save": []}, "Nothing is to be saved"),
        ({"min_confidence": 1.5}, "probability from 0 to 1"),
        ({"max_pixels": 0}, "at least 1"),
        ({"device": "gpu"}, "no such device"),
    ):
        model = tmp_path if "device" in options else color_model
        with pytest.raises(ConfigError, match=message):
            predict(model, a_jpg, out, **options)
    assert not out.exists()


def test_a_full_disk_leaves_whole_files_and_says_so(color_model, tmp_path, monkeypatch):
    images = [save_stripes(tmp_path / f"{stem}.jpg") for stem in "ab"]
    out = tmp_path / "out"

    def write(path, _):
        if path.name == "b_overlay.jpg":
            raise OSError(errno.ENOSPC, "No space left on device")
        path.touch()

    monkeypatch.setattr(outputs, "write_atomically", write)
    with pytest.raises(AtrousError, match=r"b\.jpg.*No space left.* 1 images before"):
        predict(color_model, images, out, ahead=0)


def test_an_output_folder_that_cannot_be_written_is_a_clear_error(color_model, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=r"Cannot write to the output folder .*file/out"):
        predict(color_model, save_stripes(tmp_path / "a.jpg"), tmp_path / "file" / "out")


def test_all_outputs_of_one_image_agree(color_model, tmp_path):
    color_model.card = replace(color_model.card, temperature=0.5)
    image = save_stripes(tmp_path / "a.png", 48, 40)
    kinds = ["mask", "overlay", "confidence", "probs", "rle", "geojson", "shares"]
    report = predict(color_model, image, tmp_path / "out", save=kinds)
    assert [path.name for path in report.written] == [
        "a.png", "a_overlay.jpg", "a_confidence.png", "a_probs.npz", "a_rle.json", "a.geojson",
    ]  # fmt: skip
    mask, _ = read_mask_file(tmp_path / "out/a.png")
    with np.load(tmp_path / "out/a_probs.npz") as arrays:
        probs = arrays["probs"].astype(np.float32)
    with Image.open(tmp_path / "out/a_confidence.png") as file:
        confidence = np.array(file) / 255
    expected = np.exp([2, -2, -2]) / np.exp([2, -2, -2]).sum()  # logits 1, -1, -1, divided by 0.5
    assert probs[:, 0, 0] == pytest.approx(expected, abs=1e-3)
    assert np.array_equal(probs.argmax(0), mask)
    assert np.abs(probs.max(0) - confidence).max() < 0.003
    rle = json.loads((tmp_path / "out/a_rle.json").read_text())
    assert [(one["category"], one["area"]) for one in rle["annotations"]] == [
        ("red", 960), ("blue", 960),
    ]  # fmt: skip
    polygons = json.loads((tmp_path / "out/a.geojson").read_text())
    assert polygons["features"][1]["geometry"]["coordinates"] == [
        [[24, 0], [48, 0], [48, 40], [24, 40], [24, 0]]
    ]
    with open(tmp_path / "out/shares.csv") as file:
        rows = list(csv.DictReader(file))
    assert rows == [
        {
            "image": str(image), "height": "40", "width": "48", "red": "0.500000",
            "green": "0.000000", "blue": "0.500000", "ignored": "0.000000",
        }
    ]  # fmt: skip


def test_pixels_of_low_confidence_are_ignored(color_model, tmp_path):
    image = Image.new("RGB", (40, 32), "red")
    image.paste((128, 128, 0), (0, 0, 20, 32))  # as near to red as to green
    image.save(tmp_path / "a.png")
    predict(color_model, tmp_path / "a.png", tmp_path / "out", min_confidence=0.6)
    mask, _ = read_mask_file(tmp_path / "out/a.png")
    assert (mask[:, :20] == IGNORE_INDEX).all()
    assert (mask[:, 20:] == 0).all()


def test_predictions_in_blocks_equal_those_of_the_whole_logits(color_model):
    image = torch.randint(0, 256, (3, 150, 131), dtype=torch.uint8)
    engine = TorchEngine(color_model, tta=TTA(window_px=64))
    logits = engine.compute_logits(image)
    confidence = compute_confidence(logits)
    expected = logits.argmax(0).byte()
    expected[confidence < 0.5] = IGNORE_INDEX
    prediction = compute_prediction(engine, image, confidence=True, probs=True, min_confidence=0.5)
    assert torch.equal(prediction.mask, expected)
    assert torch.equal(prediction.confidence, (255 * confidence).round().byte())
    assert torch.allclose(prediction.probs.float(), logits.softmax(0), atol=1e-3)


def test_logits_that_are_not_finite_are_an_error(color_model, tmp_path):
    color_model.head.bias.data.fill_(float("nan"))
    with pytest.raises(WeightsError, match="not finite"):
        predict(color_model, save_stripes(tmp_path / "a.png"), tmp_path / "out")
    assert list_files(tmp_path / "out") == set()


def test_probabilities_that_would_fill_the_memory_are_refused(color_model, tmp_path, monkeypatch):
    monkeypatch.setattr("atrous.prediction.prediction.MAX_PROBS_BYTES", 1000)
    image = save_stripes(tmp_path / "a.png")
    report = predict(color_model, image, tmp_path / "out", save=["mask", "probs"])
    assert "Leave probs out of --save" in report.failed[0][1]
    assert list_files(tmp_path / "out") == set()


def test_an_image_that_claims_to_be_huge_is_skipped_unread(color_model, tmp_path, recwarn):
    image = save_stripes(tmp_path / "a.png", 100, 100)
    report = predict(color_model, image, tmp_path / "out", max_pixels=9_999)
    assert "states 100 × 100 pixels" in report.failed[0][1]
    # Pillow's own limit would warn of one half as many, and refuse as many.
    header = bytearray(image.read_bytes())
    header[16:24] = (15_000).to_bytes(4, "big") + (13_000).to_bytes(4, "big")
    header[29:33] = zlib.crc32(header[12:29]).to_bytes(4, "big")
    image.write_bytes(header)
    report = predict(color_model, image, tmp_path / "out", max_pixels=10**8)
    assert "states 15000 × 13000 pixels, 195 million" in report.failed[0][1]
    assert not [warning for warning in recwarn if "ecompression" in str(warning.message)]


def test_large_images_are_handled_one_at_a_time(color_model, tmp_path, monkeypatch):
    monkeypatch.setattr("atrous.prediction.job.ONE_AT_A_TIME_PIXELS", 1000)
    images = [save_stripes(tmp_path / f"{stem}.png") for stem in "abcd"]
    (tmp_path / "b.png").write_bytes(images[0].read_bytes()[:90])
    report = predict(color_model, images, tmp_path / "out", save=["mask"])
    assert [path.name for path in report.written] == ["a.png", "c.png", "d.png"]
    assert [Path(source).name for source, _ in report.failed] == ["b.png"]


def test_images_with_one_stem_get_full_names_on_request(color_model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x").mkdir()
    images = [save_stripes(Path(name)) for name in ("a.jpg", "a.png", "x/a.png")]
    with pytest.raises(ConfigError, match=r"a\.jpg and a\.png would both be .* --full-names"):
        predict(color_model, images, "out")
    predict(color_model, images, "out", save=["mask"], full_names=True)
    assert list_files(tmp_path / "out") == {"a.jpg.png", "a.png.png", "x/a.png.png"}


def test_archives_and_patterns_keep_their_folders(color_model, tmp_path):
    (tmp_path / "x/y").mkdir(parents=True)
    images = [save_stripes(tmp_path / name) for name in ("x/a.png", "x/y/a.png")]
    with zipfile.ZipFile(tmp_path / "p.zip", "w") as archive:
        archive.write(images[0], "in/b.png")
        archive.writestr("in/torn.png", images[0].read_bytes()[:80])
    given = [f"{tmp_path}/x/**/*.png", tmp_path / "p.zip"]
    report = predict(color_model, given, tmp_path / "out", save=["mask"])
    assert list_files(tmp_path / "out") == {"a.png", "y/a.png", "p/in/b.png"}
    assert [source for source, _ in report.failed] == [f"{tmp_path}/p.zip:in/torn.png"]


@pytest.mark.parametrize("ahead", [0, 1, 8])
def test_an_interrupt_leaves_whole_files_and_resume_does_the_rest(color_model, tmp_path, ahead):
    images = [save_stripes(tmp_path / f"{stem}.jpg") for stem in "abcdefgh"]
    out, threads = tmp_path / "out", threading.active_count()

    def stop(done, _):
        if done == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        predict(color_model, images, out, ahead=ahead, progress=stop)
    assert threading.active_count() == threads
    for path in list_files(out):
        with Image.open(out / path) as image:
            image.load()
    done = {path[0] for path in list_files(out) if path.endswith(".png")}
    assert done < set("abcdefgh")
    report = predict(color_model, images, out, save=["mask", "overlay", "shares"], resume=True)
    assert {Path(source).stem for source in report.resumed} == done
    assert {path.name[0] for path in report.written} == set("abcdefgh") - done
    with open(out / "shares.csv") as file:
        assert [row["image"] for row in csv.DictReader(file)] == [str(path) for path in images]


def test_parts_are_disjoint_complete_and_merged_into_what_one_process_writes(color_model, tmp_path):
    images = tmp_path / "images"
    images.mkdir()
    for number in range(12):
        save_stripes(images / f"{number}.png", 48 + number)
    save, out = ["mask", "shares"], tmp_path / "parts"
    whole = predict(color_model, images, tmp_path / "whole", save=save)
    parts = [predict(color_model, images, out, save=save, part=f"{i}/3") for i in (1, 2)]
    report = predict(color_model, images, out, save=save, merge=True)
    assert len(report.failed) == 12 - sum(part.num_frames for part in parts)
    assert "Run its part again" in report.failed[0][1]
    assert predict(color_model, images, out, save=save, part="1/3", resume=True).num_frames == 0
    predict(color_model, images, out, save=save, part="3/3")
    assert not predict(color_model, images, out, save=save, merge=True).failed
    assert predict(color_model, images, out, save=save, part="2/2", resume=True).num_frames == 0
    for path in (tmp_path / "whole").glob("*.*"):
        if path.suffix != ".jsonl":
            assert (out / path.name).read_bytes() == path.read_bytes()
    assert whole.num_frames == 12
    for wrong, word in (("0/3", "1 to 3"), ("4/3", "1 to 3"), ("x", "3/16")):
        with pytest.raises(ConfigError, match=word):
            predict(color_model, images, out, part=wrong)


def test_resume_notices_changes(color_model, tmp_path):
    images = [save_stripes(tmp_path / f"{stem}.png") for stem in "abc"]
    out = tmp_path / "out"

    def count_new(**options):
        return predict(color_model, images, out, resume=True, **options).num_frames

    assert count_new() == 3
    assert count_new() == 0
    save_stripes(images[0], 60, 60)
    (out / "b.png").unlink()
    assert count_new() == 2
    with open(out / "predictions.jsonl", "a") as file:
        file.write('{"name": "torn')
    assert count_new() == 0
    assert count_new(min_confidence=0.1) == 3
    assert count_new(min_confidence=0.1, save=["mask"]) == 0, "fewer files are there already"
    assert count_new(min_confidence=0.1, save=["mask", "rle"]) == 3
    color_model.head.bias.data += 0.01
    assert count_new(min_confidence=0.1, save=["mask", "rle"]) == 3


def test_a_stream_gives_the_same_mask_as_a_file(color_model, tmp_path):
    image = save_stripes(tmp_path / "a.png")
    predict(color_model, image, tmp_path / "out")
    target = io.BytesIO()
    predict_stream(color_model, io.BytesIO(image.read_bytes()), target)
    assert target.getvalue() == (tmp_path / "out/a.png").read_bytes()


@pytest.mark.parametrize(
    ("content", "kind", "error", "message"),
    [
        (b"", "mask", DataError, "Cannot read stdin as an image"),
        (b"words", "mask", DataError, "Cannot read stdin as an image"),
        (b"", "shares", ConfigError, "no file of one image"),
        (b"", "maks", ConfigError, "Did you mean 'mask'"),
    ],
)
def test_a_stream_that_cannot_be_used_writes_nothing(color_model, content, kind, error, message):
    target = io.BytesIO()
    with pytest.raises(error, match=message):
        predict_stream(color_model, io.BytesIO(content), target, kind=kind)
    assert target.getvalue() == b""


def test_a_run_folder_predicts_real_images_at_their_own_size(real_data, tmp_path):
    dataset = open_dataset(real_data / "camvid", "val")
    model = build_model("deeplabv3_mobilenet_v3_large", num_classes=len(dataset.classes))
    card = ModelCard(
        model.name, model.options, dataset.classes, (0.5,) * 3, (0.25,) * 3, (96, 128), {}
    )
    save_weights(tmp_path / "best.safetensors", model, card)
    images = dataset.image_paths[:2]
    report = predict(tmp_path, images, tmp_path / "out", device="cpu")
    assert (len(report.written), report.failed) == (4, [])
    for image in images:
        mask, palette = read_mask_file(tmp_path / "out" / f"{image.stem}.png")
        assert mask.shape == (360, 480)
        assert mask.max() < 11
        assert palette == dataset.classes.palette
        with Image.open(tmp_path / "out" / f"{image.stem}_overlay.jpg") as overlay:
            assert overlay.width == 480
            assert overlay.height > 360


def test_overlays_tint_regions_except_black_classes_and_ignored_pixels():
    classes = build_classes(["background", "thing"], [(0, 0, 0), (200, 0, 0)])
    image = torch.full((3, 60, 90), 100, dtype=torch.uint8)
    mask = torch.zeros(60, 90, dtype=torch.uint8)
    mask[:, 30:60] = 1
    mask[:, 60:] = IGNORE_INDEX
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
    mask = torch.full((20, 20), IGNORE_INDEX, dtype=torch.uint8)
    render_overlay(torch.zeros(3, 20, 20, dtype=torch.uint8), mask, build_classes(["a"]))


def test_saved_masks_read_back_as_they_were(tmp_path):
    mask = torch.randint(0, 256, (31, 17), dtype=torch.uint8)
    with open(tmp_path / "m.png", "wb") as file:
        write_mask(file, mask, build_classes(["a"]))
    assert np.array_equal(read_mask_file(tmp_path / "m.png")[0], mask.numpy())
