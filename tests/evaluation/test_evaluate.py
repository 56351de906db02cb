"""Evaluation of a model with known answers, and of run folders."""

import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from atrous.classes import VOID, build_classes
from atrous.data import open_dataset
from atrous.engines import Views
from atrous.errors import AtrousError, DataError, WeightsError
from atrous.evaluation import evaluate, evaluate_model, fit_temperature, load_image_counts
from atrous.models import ModelCard, build_model, load_model, save_weights

CLASSES_TOML = 'names = ["red", "green", "blue"]\nignore_index = 9\n'


@pytest.fixture
def colored_data(tmp_path):
    """Two pictures of other sizes; in the second a strip is green but labelled blue."""
    root = tmp_path / "data"
    for part in ("images", "masks"):
        (root / "val" / part).mkdir(parents=True)
    (root / "classes.toml").write_text(CLASSES_TOML)
    colors = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255]], np.uint8)
    for name, height, width in (("a", 40, 50), ("b", 60, 36)):
        truth = np.zeros((height, width), np.uint8)
        truth[height // 2 :] = 2
        seen = truth.copy()
        if name == "b":
            seen[30:33] = 1
        Image.fromarray(colors[seen]).save(root / "val" / "images" / f"{name}.png")
        truth[:, :4] = 9
        Image.fromarray(truth).save(root / "val" / "masks" / f"{name}.png")
    return root


def test_a_model_with_known_answers_is_counted_exactly(color_model, colored_data):
    per_image = {}
    evaluation = evaluate_model(
        color_model,
        open_dataset(colored_data, "val"),
        views=Views(flip=True, window_px=32),
        criterion=lambda logits, mask: F.cross_entropy(logits, mask, ignore_index=VOID),
        on_image=lambda result: per_image.__setitem__(result.name, result.counts),
    )
    wrong = 3 * 32
    reds, blues = 20 * 46 + 30 * 32, 20 * 46 + 30 * 32
    expected = [[reds, 0, 0], [0, 0, 0], [0, wrong, blues - wrong]]
    assert evaluation.counts.confusion.tolist() == expected
    assert evaluation.counts.num_images == 2
    assert per_image["a"].tolist() == [[20 * 46, 0, 0], [0, 0, 0], [20 * 46, 0, 0]]
    assert per_image["b"][1:].tolist() == [[0, wrong, 0], [30 * 32 - wrong, 0, wrong]]
    # The right colour has probability e / (e + e⁻¹ + e⁻¹), by the model's weights.
    hit, miss = (-np.log(np.exp(x) / (np.exp(1) + 2 * np.exp(-1))) for x in (1, -1))
    total = reds + blues
    assert evaluation.loss == pytest.approx((hit * (total - wrong) + miss * wrong) / total)


def test_ranks_share_the_pictures_and_their_counts_add_up(color_model, colored_data):
    dataset = open_dataset(colored_data, "val")
    whole = evaluate_model(color_model, dataset).counts
    parts = [evaluate_model(color_model, dataset, rank=rank, world_size=2) for rank in (0, 1)]
    total = parts[0].counts + parts[1].counts
    assert total.confusion.tolist() == whole.confusion.tolist()
    assert total.num_images == 2


def test_modules_are_left_in_the_mode_they_were_in(colored_data, color_model):
    color_model.train()
    color_model.head.eval()
    modes = []
    color_model.register_forward_hook(lambda module, *_: modes.append(module.training))

    def abort(result):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        evaluate_model(color_model, open_dataset(colored_data, "val"), on_image=abort)
    assert modes == [False]
    assert color_model.training
    assert not color_model.head.training


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """Weights of a real small model with the classes of the coloured pictures."""
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
    """A run folder of a real small model on the coloured pictures."""
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
    pictures = [json.loads(line) for line in lines]
    assert [picture["name"] for picture in pictures] == ["a", "b"]
    # Counts at the masks' own sizes: all labelled pixels are there, though the model sees 64 x 64.
    labelled = [sum(tp + fn for tp, _, fn in picture["counts"].values()) for picture in pictures]
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
    with pytest.raises(DataError, match=r"Class 0 is 'gray' in .* 'red' for the model"):
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
    temperature = fit_temperature(run, device="cpu")
    after = evaluate(run, device="cpu")
    assert load_model(run).card.temperature == temperature != 1
    assert after.confidence.temperature == temperature
    assert after.scores == before.scores


def test_logits_that_are_not_finite_are_refused_by_name(color_model, colored_data):
    with torch.no_grad():
        next(color_model.parameters()).fill_(float("nan"))
    with pytest.raises(WeightsError, match=r"picture a are not finite"):
        evaluate_model(color_model, open_dataset(colored_data, "val"))


def test_a_bad_picture_keeps_what_was_evaluated_before(run, colored_data):
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
    num_pixels = []

    def stop_after_two(result):
        num_pixels.append(int(result.counts[:, [0, 2]].sum()))
        if len(num_pixels) == 2:
            raise StopIteration

    with pytest.raises(StopIteration):
        evaluate_model(model, dataset, on_image=stop_after_two)
    assert num_pixels == [int((dataset.load(index).mask != VOID).sum()) for index in (0, 1)]
