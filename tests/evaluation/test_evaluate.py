"""Evaluation of a model with known predictions, and of run folders."""

import json
import multiprocessing
import warnings
from itertools import islice

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from atrous.classes import IGNORE_INDEX, build_classes
from atrous.data import open_dataset
from atrous.engines import TTA, TorchEngine
from atrous.errors import AtrousError, AtrousWarning, ConfigError, DataError, WeightsError
from atrous.evaluation import (
    Counts,
    calibrate,
    evaluate,
    load_image_counts,
    predict_split,
    validate_model,
)
from atrous.models import ModelCard, build_model, load_model, save_weights
from atrous.recipe import build_recipe, format_recipe

CLASSES_TOML = 'names = ["red", "green", "blue"]\nignore_index = 9\n'


@pytest.fixture
def colored_data(tmp_path):
    """Two images of other sizes; in the second a strip is green but labelled blue."""
    root = tmp_path / "data"
    for part in ("images", "masks"):
        (root / "val" / part).mkdir(parents=True)
    (root / "classes.toml").write_text(CLASSES_TOML)
    colors = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255]], np.uint8)
    for name, height, width in (("a", 40, 50), ("b", 60, 36)):
        true = np.zeros((height, width), np.uint8)
        true[height // 2 :] = 2
        seen = true.copy()
        if name == "b":
            seen[30:33] = 1
        Image.fromarray(colors[seen]).save(root / "val" / "images" / f"{name}.png")
        true[:, :4] = 9
        Image.fromarray(true).save(root / "val" / "masks" / f"{name}.png")
    return root


@pytest.mark.parametrize("num_pixels", [0, 1, 46 * 32 + 1, 10**6])
def test_chunks_of_images_keep_their_order(color_model, colored_data, num_pixels, monkeypatch):
    dataset, done = open_dataset(colored_data, "val"), []
    single = list(predict_split(TorchEngine(color_model), dataset))
    monkeypatch.setattr(TorchEngine, "batch_pixels", num_pixels)
    chunked = list(
        predict_split(TorchEngine(color_model), dataset, progress=lambda *at: done.append(at))
    )
    assert done == [(1, 2), (2, 2)]
    for one, other in zip(single, chunked, strict=True):
        assert one.name == other.name
        assert torch.equal(one.prediction, other.prediction)
        assert torch.equal(one.mask, other.mask)


def test_a_model_with_known_predictions_is_counted_exactly(color_model, colored_data):
    dataset, tta = open_dataset(colored_data, "val"), TTA(flip=True, window_px=32)
    done = []
    validation = validate_model(
        color_model,
        dataset,
        tta=tta,
        criterion=lambda logits, mask: F.cross_entropy(logits, mask, ignore_index=IGNORE_INDEX),
        progress=lambda *at: done.append(at),
    )
    assert done == [(1, 2), (2, 2)]
    per_image = {
        result.name: Counts(3).update(result.prediction, result.mask)
        for result in predict_split(TorchEngine(color_model, tta=tta), dataset)
    }
    wrong = 3 * 32
    reds, blues = 20 * 46 + 30 * 32, 20 * 46 + 30 * 32
    expected = [[reds, 0, 0], [0, 0, 0], [0, wrong, blues - wrong]]
    assert validation.counts.confusion.tolist() == expected
    assert validation.counts.num_images == 2
    assert per_image["a"].tolist() == [[20 * 46, 0, 0], [0, 0, 0], [20 * 46, 0, 0]]
    assert per_image["b"][1:].tolist() == [[0, wrong, 0], [30 * 32 - wrong, 0, wrong]]
    # The right colour has probability e / (e + e⁻¹ + e⁻¹), by the model's weights.
    hit, miss = (-np.log(np.exp(x) / (np.exp(1) + 2 * np.exp(-1))) for x in (1, -1))
    total = reds + blues
    assert validation.loss == pytest.approx((hit * (total - wrong) + miss * wrong) / total)


def test_ranks_share_the_images_and_their_counts_add_up(color_model, colored_data):
    dataset = open_dataset(colored_data, "val")
    whole = validate_model(color_model, dataset).counts
    parts = [validate_model(color_model, dataset, rank=rank, world_size=2) for rank in (0, 1)]
    total = parts[0].counts + parts[1].counts
    assert total.confusion.tolist() == whole.confusion.tolist()
    assert total.num_images == 2


@pytest.mark.parametrize("failure", ["image", "progress"])
def test_a_failure_leaves_no_worker_behind(colored_data, color_model, failure):
    dataset = open_dataset(colored_data, "val")
    if failure == "image":
        dataset.image_paths[1].write_text("no image")

    def track(done, total):
        assert len(multiprocessing.active_children()) == 1
        if failure == "progress":
            raise DataError("of the callback")

    with pytest.raises(DataError):
        validate_model(color_model, dataset, workers=1, progress=track)
    assert multiprocessing.active_children() == []


def test_modules_are_left_in_the_mode_they_were_in(colored_data, color_model):
    color_model.train()
    color_model.head.eval()
    modes = []
    color_model.register_forward_hook(lambda module, *_: modes.append(module.training))

    def abort(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        validate_model(color_model, open_dataset(colored_data, "val"), progress=abort)
    assert modes == [False]
    assert color_model.training
    assert not color_model.head.training


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """Weights of a real small model with the classes of the coloured images."""
    torch.manual_seed(0)
    model = build_model("deeplabv3_mobilenet_v3_large", num_classes=3)
    classes = build_classes(["red", "green", "blue"])
    card = ModelCard(
        model.name, model.options, classes, (0.5,) * 3, (0.25,) * 3, (64, 64), {"step": 7}
    )
    path = tmp_path_factory.mktemp("weights") / "best.safetensors"
    save_weights(path, model, card)
    return path


@pytest.fixture
def run(tmp_path, colored_data, weights):
    """A run folder of a real small model on the coloured images."""
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / weights.name).symlink_to(weights)
    (folder / "recipe.toml").write_text(f"[data]\nroot = '{colored_data}'\nsize = 64\n")
    return folder


def test_a_run_folder_knows_its_data_and_keeps_its_scores(run, colored_data):
    done = []
    report = evaluate(run, device="cpu", progress=lambda *at: done.append(at))
    assert done == [(1, 2), (2, 2)]
    saved = json.loads((run / "evaluation" / "val.json").read_text())
    assert saved["miou"] == report.scores.miou
    assert saved["training"] == {"step": 7}
    assert saved["data"] == str(colored_data)
    assert (saved["split"], saved["num_images"], saved["absent"]) == ("val", 2, ["green"])
    for key in ("pixel_accuracy", "precision_macro", "recall_micro", "f1_macro", "f1_micro"):
        assert 0 <= saved[key] <= 1
    assert saved["per_class"][1]["iou"] is None
    lines = (run / "evaluation" / "val-counts.jsonl").read_text().splitlines()
    images = [json.loads(line) for line in lines]
    assert [image["name"] for image in images] == ["a", "b"]
    # Counts at the masks' own sizes: all labelled pixels are there, though the model sees 64 x 64.
    labelled = [sum(tp + fn for tp, _, fn in image["counts"].values()) for image in images]
    assert labelled == [40 * 46, 60 * 32]


def test_a_weights_file_is_scored_alike_and_leaves_no_files(run, colored_data):
    before = sorted(run.iterdir())
    alone = evaluate(run / "best.safetensors", colored_data, device="cpu")
    assert sorted(run.iterdir()) == before
    assert alone.to_json()["conventions"] == evaluate(run, device="cpu").to_json()["conventions"]


def test_another_output_stride_is_said_and_used(run):
    report = evaluate(run, output_stride=8, device="cpu")
    assert report.output_stride == 8


def test_data_of_other_classes_is_refused_by_both_names(run, colored_data):
    (colored_data / "classes.toml").write_text(CLASSES_TOML.replace("]", ', "pink"]', 1))
    with pytest.raises(DataError, match=r"has 4 classes .*pink.* trained for 3"):
        evaluate(run, device="cpu")
    assert not (run / "evaluation").exists()


def test_classes_in_another_order_are_refused(run, colored_data):
    (colored_data / "classes.toml").write_text(CLASSES_TOML.replace("red", "gray"))
    with pytest.raises(DataError, match=r"Class 0 is 'gray' in .* 'red' in the model"):
        evaluate(run, device="cpu")


def test_all_that_is_asked_for_is_measured_and_kept(run):
    report = evaluate(run, boundary=True, device="cpu")
    saved = json.loads((run / "evaluation" / "val.json").read_text())
    assert sum(map(sum, saved["confusion"])) == 40 * 46 + 60 * 32
    assert saved["confidence"]["risk_coverage"][0]["miou"] == pytest.approx(saved["miou"])
    assert [band["width_px"] for band in saved["boundary"]["trimap"]] == [1, 2, 4, 8, 16]
    assert [row["area"] for row in saved["objects"]] == ["small", "medium", "large"]
    rows = {row["key"]: row for row in saved["conventions"]}
    assert rows["dataset-macro"]["iou"] == pytest.approx(saved["miou"])
    assert rows["dataset-micro"]["f1"] == pytest.approx(saved["pixel_accuracy"])
    counts = load_image_counts(run / "evaluation" / "val-counts.jsonl", 3)
    assert counts.names == ("a", "b")
    assert np.array_equal(counts.counts, report.image_counts.counts)
    assert np.isfinite(counts.compute_miou()).all()


def test_a_fitted_temperature_stays_with_the_weights(run, weights):
    own = run / "best.safetensors"
    own.unlink()
    own.write_bytes(weights.read_bytes())
    before = evaluate(run, device="cpu")
    temperature = calibrate(run, split="val", device="cpu")
    after = evaluate(run, device="cpu")
    assert load_model(run).card.temperature == temperature != 1
    assert after.confidence.temperature == temperature
    assert after.scores == before.scores
    assert after.training["step"] == 7
    assert (before.is_calibration_split, after.is_calibration_split) == (False, True)


def test_a_temperature_of_another_split_is_not_noted(run, weights, colored_data):
    (run / "best.safetensors").unlink()
    (run / "best.safetensors").write_bytes(weights.read_bytes())
    (colored_data / "test").symlink_to(colored_data / "val")
    (colored_data / "other").mkdir()
    for part in ("images", "masks"):
        (colored_data / "other" / part).mkdir()
        (colored_data / "other" / part / "a.png").symlink_to(colored_data / "val" / part / "a.png")
    calibrate(run, split="other", device="cpu")
    assert not evaluate(run, device="cpu").is_calibration_split


def test_logits_that_are_not_finite_are_refused_by_name(color_model, colored_data):
    with torch.no_grad():
        next(color_model.parameters()).fill_(float("nan"))
    with pytest.raises(WeightsError, match=r"image a cannot be scored.*not finite"):
        validate_model(color_model, open_dataset(colored_data, "val"))


def test_a_bad_image_keeps_what_was_evaluated_before(run, colored_data):
    evaluate(run, device="cpu")
    kept = {path: path.read_bytes() for path in (run / "evaluation").iterdir()}
    (colored_data / "val" / "images" / "b.png").write_bytes(b"torn")
    with pytest.raises(DataError, match=r"b\.png"):
        evaluate(run, device="cpu")
    assert {path: path.read_bytes() for path in (run / "evaluation").iterdir()} == kept


def test_a_file_that_does_not_know_its_data_asks_for_it(run):
    with pytest.raises(AtrousError, match="give the data"):
        evaluate(run / "best.safetensors", device="cpu")


def test_real_masks_are_scored_at_their_own_resolution(real_data, tmp_path):
    dataset = open_dataset(real_data / "camvid", "val")
    model = build_model("deeplabv3_mobilenet_v3_large", num_classes=11)
    model.card = ModelCard(
        model.name, model.options, dataset.classes, (0.5,) * 3, (0.25,) * 3, (60, 80), {}
    )
    counts = Counts(11)
    for index, result in enumerate(islice(predict_split(TorchEngine(model.eval()), dataset), 2)):
        tp_fp_fn = counts.update(result.prediction, result.mask)
        num_labelled = int((dataset.load(index).mask != IGNORE_INDEX).sum())
        assert tp_fp_fn[:, [0, 2]].sum() == num_labelled


def test_random_taps_that_training_never_reached_are_warned_of_and_can_be_zeroed(
    tmp_path, colored_data
):
    torch.manual_seed(0)
    model = build_model("deeplabv3plus_resnet18", num_classes=3, atrous_rates=(1, 2, 9))
    classes = build_classes(["red", "green", "blue"])
    card = ModelCard(
        model.name, model.options, classes, (0.5,) * 3, (0.5,) * 3, size_hw=None, training={}
    )
    save_weights(tmp_path / "best.safetensors", model, card)
    values = {"data": {"root": str(colored_data), "crop": 96}, "model": {"name": model.name}}
    (tmp_path / "recipe.toml").write_text(format_recipe(build_recipe(values)))
    with pytest.warns(AtrousWarning, match=r"96×96 never reached all taps at rate 9.*--window 96"):
        evaluate(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        evaluate(tmp_path, zero_untrained_taps=True)
    with pytest.raises(ConfigError, match="is not a run folder"):
        evaluate(tmp_path / "best.safetensors", colored_data, zero_untrained_taps=True)
