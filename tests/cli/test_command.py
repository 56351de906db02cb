"""The command from outside: what it writes, its exit codes, and its errors as paragraphs."""

import io
import json
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from atrous.cli.main import app

pytestmark = pytest.mark.slow  # trains

TINY = [
    "--model", "deeplabv3plus_mobilenet_v3_large", "--for", "2it", "--crop", "48",
    "--batch-size", "2", "--workers", "0", "--set", "model.decoder_channels=8",
]  # fmt: skip


@pytest.fixture(scope="module")
def workplace(tmp_path_factory):
    """The sample set and a run on it, made by the command itself."""
    folder = tmp_path_factory.mktemp("workplace")
    size = ("--num-train", "6", "--num-val", "2", "--size", "64")
    for arguments in (
        ["data", "shapes", folder / "data", *size],
        ["train", folder / "data", *TINY, "--out", folder / "run"],
    ):
        assert CliRunner().invoke(app, list(map(str, arguments))).exit_code == 0
    return folder


def test_train_resumes_when_started_again(workplace, atrous):
    code, output = atrous("train", workplace / "data", *TINY, "--out", workplace / "run")
    assert code == 0
    assert "Resuming from step 2." in output
    assert "Finished: 2 steps" in output


def test_evaluate_prints_a_table_and_writes_the_promised_keys(workplace, atrous, tmp_path):
    path = tmp_path / "new" / "scores.json"
    code, output = atrous("evaluate", workplace / "run", "--json", path, "--workers", 0)
    assert code == 0
    assert "mean (macro)" in output
    scores = json.loads(path.read_text())
    means = {
        f"{score}_{mean}" for score in ("precision", "recall", "f1") for mean in ("macro", "micro")
    }
    assert {"miou", "pixel_accuracy", "per_class"} | means <= set(scores)
    assert set(scores["per_class"][0]) == {
        "name", "index", "iou", "precision", "recall", "f1", "pixels"
    }  # fmt: skip
    assert scores["num_images"] == 2
    stored = json.loads((workplace / "run/evaluation/val.json").read_text())
    assert stored["miou"] == scores["miou"]
    counts = (workplace / "run/evaluation/val-counts.jsonl").read_text().splitlines()
    assert len(counts) == 2


def test_calibrate_writes_a_temperature_that_evaluate_notes(workplace, atrous, tmp_path):
    weights = tmp_path / "weights.safetensors"
    weights.write_bytes((workplace / "run/best.safetensors").read_bytes())
    arguments = (weights, "--data", workplace / "data", "--workers", 0)
    assert "fitted on this split" not in atrous("evaluate", *arguments)[1]
    code, output = atrous("calibrate", *arguments, "--split", "val")
    assert (code, "fitted on 'val'" in output) == (0, True)
    assert "fitted on this split" in atrous("evaluate", *arguments)[1]
    assert atrous("calibrate", *arguments)[0] == 2


def test_evaluate_through_other_views(workplace, atrous):
    code, output = atrous(
        "evaluate", workplace / "run", "--output-stride", 8, "--scales", "0.5,1", "--flip",
        "--window", 48, "--workers", 0,
    )  # fmt: skip
    assert code == 0
    assert "mIoU" in output


def test_compare_prints_intervals_and_writes_json_and_a_page(workplace, atrous, tmp_path):
    run = workplace / "run"
    atrous("evaluate", run, "--workers", 0)
    json_path, html_path = tmp_path / "new" / "scores.json", tmp_path / "new" / "page.html"
    code, output = atrous(
        "compare", run, run, "--no-cost", "--resamples", 1000, "--json", json_path,
        "--html", html_path,
    )  # fmt: skip
    assert code == 0
    assert "run (2) and run have the same counts on every image." in output or (
        "too few images to tell whether run (2) or run is better" in output
    )
    values = json.loads(json_path.read_text())
    assert values["runs"][0]["miou"]["value"] == values["runs"][1]["miou"]["value"]
    assert values["differences"][0]["miou"]["value"] == 0
    assert html_path.read_text().startswith("<!doctype html>")
    (tmp_path / "file").write_text("in the way")
    for option in ("--json", "--html"):
        code, output = atrous("compare", run, run, "--no-cost", option, tmp_path / "file" / "below")
        assert code == 2
        assert "cannot be written" in output


def test_predict_writes_masks_and_overlays_and_skips_what_is_broken(workplace, atrous, tmp_path):
    images = tmp_path / "images"
    images.mkdir()
    Image.new("RGB", (70, 50), "orange").save(images / "good.png")
    (images / "broken.jpg").write_bytes(b"no image")
    code, output = atrous("predict", workplace / "run", images, "--out", tmp_path / "out")
    assert code == 1
    assert "broken.jpg" in output
    assert "1 image segmented" in output
    assert "1 skipped" in output
    with Image.open(tmp_path / "out/good.png") as mask:
        assert (mask.mode, mask.size) == ("P", (70, 50))
        assert np.asarray(mask).max() < 8
    assert (tmp_path / "out/good_overlay.jpg").is_file()
    assert (
        atrous("predict", workplace / "run", images / "good.png", "--out", tmp_path / "b")[0] == 0
    )


def test_predict_pipes_a_image_through(workplace, atrous, monkeypatch):
    image, piped = io.BytesIO(), io.BytesIO()
    Image.new("RGB", (70, 50), "orange").save(image, "PNG")
    image.seek(0)
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdin", SimpleNamespace(buffer=image, isatty=lambda: False))
        patch.setattr(sys, "stdout", SimpleNamespace(buffer=piped, isatty=lambda: False))
        code, _ = atrous("predict", workplace / "run", "-")
    assert code == 0
    with Image.open(piped) as mask:
        assert (mask.mode, mask.size, mask.format) == ("P", (70, 50), "PNG")


def test_predict_where_nothing_can_be_used_is_unusable(workplace, atrous, tmp_path):
    (tmp_path / "broken.jpg").write_bytes(b"no image")
    code, output = atrous("predict", workplace / "run", tmp_path / "broken.jpg", "--out", tmp_path)
    assert code == 2
    assert "Skipped: Cannot read" in output
    assert "None of the inputs could be used" in output


def test_predict_goes_on_and_says_so(workplace, atrous, tmp_path):
    Image.new("RGB", (70, 50), "orange").save(tmp_path / "a.png")
    command = ("predict", workplace / "run", tmp_path / "a.png", "--out", tmp_path / "out")
    assert atrous(*command, "--save", "mask,shares", "--min-confidence", 0.2)[0] == 0
    code, output = atrous(*command, "--save", "mask,shares", "--min-confidence", 0.2, "--resume")
    assert code == 0
    assert "0 images segmented" in output
    assert "1 resumed" in output
    assert (tmp_path / "out/shares.csv").is_file()


def test_models_lists_every_variant(atrous):
    code, output = atrous("models")
    assert code == 0
    assert "deeplabv3_report 39,703,423" in output
    assert "deeplabv3plus_mobilenet_v3_large" in output


def test_the_files_of_shapes_are_the_same_each_time(workplace, atrous, tmp_path):
    atrous("data", "shapes", tmp_path / "data", "--num-train", 6, "--num-val", 2, "--size", 64)
    for path in (workplace / "data").rglob("*.*"):
        if path.is_file():
            assert (tmp_path / "data" / path.relative_to(workplace / "data")).read_bytes() == (
                path.read_bytes()
            )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "{data}", "--out", "{new}", "--model", "deeplabv3_resnet5"], "Did you mean"),
        (["train", "{data}", "--out", "{new}", "--set", "train.lrr=1"], "Did you mean 'train.lr'"),
        (["train", "{data}", "--out", "{new}", "--for", "soon"], "20ep"),
        (["train", "{data}", "--out", "{new}", "--recipe", "none.toml"], "none.toml cannot be"),
        (["train", "--out", "{new}"], "No data is given"),
        (["train", "nowhere", "--out", "{new}"], "nowhere"),
        (["train", "{data}", "--out", "{new}", "--init", "none.pth"], "none.pth"),
        (["train", "{data}", "--out", "{new}", "--device", "tpu"], "no such device"),
        (["train", "{data}", "--out", "{new}", "--nodes", "2"], "NODE_RANK"),
        (["predict", "{run}", "-", "--ray", "auto"], "--ray needs an output folder"),
        (
            ["predict", "{run}", "{image}", "--out", "{new}", "--ray", "auto", "--merge"],
            "leave out",
        ),
        (["train", "{data}", *TINY, "--out", "{run}", "--lr", "1"], "changed: train.lr"),
        (["train", "{data}", "--out", "{new}", "--size", "256", "--crop", "9"], "data.crop"),
        (["evaluate", "{new}"], "no run folder or weights file"),
        (["evaluate", "{run}", "--data", "nowhere"], "nowhere"),
        (["evaluate", "{run}", "--split", "test"], "test"),
        (["evaluate", "{run}", "--scales", "a"], "0.75,1,1.25"),
        (["evaluate", "{run}", "--output-stride", "7"], "output_stride"),
        (["compare", "{run}"], "give two run folders or more"),
        (["compare", "{run}", "{new}"], "There is no run folder"),
        (["compare", "{data}", "{run}"], "data has not been evaluated on 'val'"),
        (["predict", "{run}", "none.jpg", "--out", "{new}"], "none.jpg"),
        (["predict", "{data}", "none.jpg", "--out", "{new}"], "holds neither"),
        (["predict", "{run}", "{image}"], "Add --out"),
        (["predict", "{run}", "-", "{image}"], "add --out"),
        (["predict", "{run}", "-", "--resume"], "--resume needs an output folder"),
        (["predict", "{run}", "{image}", "--out", "{image}"], "is a file; give a folder"),
        (["predict", "{run}", "{image}", "--out", "{image}/out"], "Cannot write to the output"),
        (["predict", "{new}", "{image}", "--out", "{new}"], "no run folder or weights file"),
        (["predict", "{run}", "{image}", "--out", "{new}", "--save", "msk"], "'mask'"),
        (["predict", "{run}", "{image}", "--out", "{new}", "--min-confidence", "2"], "from 0 to 1"),
        (["predict", "{run}", "{image}", "--out", "{new}", "--window", "9"], "below 32 px"),
        (["predict", "{run}", "{image}", "--out", "{new}", "--overlap", "1"], "overlap 1.0"),
        (["predict", "{run}", "{image}", "--out", "{new}", "--scales", "0"], "positive"),
        (
            ["predict", "{run}", "{image}", "--out", "{new}", "--max-megapixels", "0"],
            "at least 1",
        ),
        (["predict", "{run}", "{data}", "--out", "{new}"], "no images in"),
        (["predict", "{run}", "{data}/*.tiff", "--out", "{new}"], "No image, video or archive"),
        (["data", "voc2012", "{new}"], "--voc-tar FILE or --download"),
        (["data", "voc2012", "{new}", "--voc-tar", "none.tar"], "none.tar"),
        (["verify-resume", "none.toml"], "none.toml cannot be read"),
        (["data", "voc2012", "{new}", "--download", "--sbd-tar", "x"], "a local archive"),
        (["data", "shapes", "{new}", "--size", "0"], "--size"),
        (["tarin"], "train"),
        (["train", "{data}", "--out", "{new}", "--batchsize", "4"], "--batch-size"),
    ],
    ids=lambda value: " ".join(value[:2]) if isinstance(value, list) else None,
)
def test_a_mistake_is_a_paragraph_and_exit_code_2(workplace, atrous, tmp_path, arguments, message):
    new = tmp_path / "new"
    image = tmp_path / "image.png"
    Image.new("RGB", (40, 40)).save(image)
    places = {"data": workplace / "data", "run": workplace / "run", "new": new, "image": image}
    code, output = atrous(*(argument.format(**places) for argument in arguments))
    assert code == 2
    assert message in output
    assert "Traceback" not in output
    assert not new.exists()
