"""Comparisons of runs: what is refused, what is said, and the numbers against `compute_scores`."""

import json
import sys
from dataclasses import asdict

import numpy as np
import pytest

from atrous.classes import build_classes
from atrous.engines import TTA
from atrous.errors import AtrousError, ConfigError, DataError
from atrous.evaluation import compare
from atrous.evaluation.bootstrap import MIN_IMAGES
from atrous.evaluation.image_counts import format_image_counts
from atrous.evaluation.metrics import CONVENTION, compute_miou, compute_ratios
from atrous.models import ModelCard, build_model, save_weights
from atrous.profile.cost import Cost
from atrous.recipe import build_recipe, format_recipe
from atrous.report.comparison_page import save_comparison_page

CLASSES = ("road", "<b>tree</b>", "kerb", "never")


def make_counts(*, num_images=40, skill=0.8, seed=0, num_classes=4):
    """Counts whose masks depend on nothing but the sizes; the last class is in no mask."""
    shape = num_images, num_classes
    pixels = np.random.default_rng(7).integers(50, 500, shape)
    pixels[:, 3:] = 0
    generator = np.random.default_rng(seed)
    tp = generator.binomial(pixels, np.clip(skill + generator.normal(0, 0.05, shape), 0, 1))
    fp = generator.integers(0, 40, shape)
    return np.stack((tp, fp, pixels - tp), axis=-1)


def save_evaluation(folder, counts, *, classes=CLASSES, split="val", **changes):
    """Write what `atrous evaluate` leaves, as far as a comparison reads it."""
    home = folder / "evaluation"
    home.mkdir(parents=True, exist_ok=True)
    report = {
        "miou": float(compute_miou(counts.sum(axis=0))),
        "per_class": [{"name": name} for name in classes[: counts.shape[1]]],
        "convention": CONVENTION,
        "model": "deeplabv3_resnet18",
        "output_stride": 16,
        "data": "nowhere",
        "data_fingerprint": "f" * 64,
        "num_images": len(counts),
        "tta": asdict(TTA()),
        "precision": "32",
        **changes,
    }
    lines = [format_image_counts(f"image{i:03}", one) for i, one in enumerate(counts)]
    (home / f"{split}.json").write_text(json.dumps(report))
    (home / f"{split}-counts.jsonl").write_bytes(b"".join(lines))
    return folder


def save_training(folder, *, steps, **train):
    recipe = build_recipe({"train": {"batch_size": 4, **train}})
    (folder / "recipe.toml").write_text(format_recipe(recipe))
    (folder / "plan.json").write_text(json.dumps({"total_steps": steps}))


@pytest.fixture
def runs(tmp_path):
    """Two runs on the same masks; the second is better by some points."""
    return [
        save_evaluation(tmp_path / "plain", make_counts()),
        save_evaluation(tmp_path / "better", make_counts(skill=0.85, seed=1)),
    ]


def run_compare(folders, **options):
    return compare(folders, cost=False, num_resamples=1000, **options)


@pytest.fixture
def render(tmp_path):
    """Return the page of a comparison."""

    def render(comparison):
        save_comparison_page(comparison, tmp_path / "compare.html")
        return (tmp_path / "compare.html").read_text(encoding="utf-8")

    return render


def test_scores_are_those_of_the_counts_and_differences_are_theirs(runs):
    comparison = run_compare(runs)
    for run, seed, skill in zip(comparison.runs, (0, 1), (0.8, 0.85), strict=True):
        ratios = compute_ratios(make_counts(seed=seed, skill=skill).sum(axis=0), zero_division=0)[
            :3
        ]
        means = (run.miou.value, run.precision_macro, run.recall_macro, run.f1_macro)
        assert means == pytest.approx(ratios.mean(axis=0))
        assert [iou.value for iou in run.iou[:3]] == pytest.approx(ratios[:, 0])
        assert run.iou[3] is None
        assert run.miou.low < run.miou.value < run.miou.high
    (difference,) = comparison.differences
    first, other = comparison.runs
    assert difference.miou.value == pytest.approx(other.miou.value - first.miou.value)
    assert difference.miou.low < difference.miou.value < difference.miou.high
    for index in range(3):
        expected = other.iou[index].value - first.iou[index].value
        assert difference.iou[index].value == pytest.approx(expected)
    assert (comparison.num_images, comparison.class_images) == (40, (40, 40, 40, 0))
    assert difference.is_significant
    miou = difference.miou
    points, low, high = (f"{100 * value:.1f}" for value in (miou.value, miou.low, miou.high))
    assert difference.sentence == (
        f"better is better than plain by {points} points of mIoU on these 40 images (95 % interval "
        f"{low} to {high})."
    )
    (reverse,) = run_compare(runs[::-1]).differences
    assert f"plain is worse than better by {points} points of mIoU on" in reverse.sentence
    assert f"(95 % interval {low} to {high})" in reverse.sentence


def test_noise_is_called_noise(tmp_path, runs):
    save_evaluation(tmp_path / "noise", make_counts(seed=2))
    (difference,) = run_compare([runs[0], tmp_path / "noise"]).differences
    assert difference.miou.low < 0 < difference.miou.high
    assert not difference.is_significant
    points = f"{100 * difference.miou.value:+.1f}".replace("-", "−")
    assert (
        f"are not distinguishable on these 40 images: the difference is {points} points"
    ) in difference.sentence


def test_a_run_twice_is_allowed_and_differs_by_nothing(runs):
    comparison = run_compare([runs[0], runs[0]])
    (difference,) = comparison.differences
    assert (difference.miou.value, difference.miou.low, difference.miou.high) == (0, 0, 0)
    assert difference.miou.probability_above_0 == 0.5
    assert not any(difference.iou_is_significant)
    assert "same counts on every image" in difference.sentence
    assert [run.name for run in comparison.runs] == ["plain", "plain (2)"]


def test_the_order_of_the_images_in_the_files_does_not_matter(runs):
    before = run_compare(runs)
    path = runs[1] / "evaluation/val-counts.jsonl"
    path.write_bytes(b"".join(reversed(path.read_bytes().splitlines(keepends=True))))
    assert run_compare(runs) == before


def test_folders_of_the_same_name_are_told_apart(tmp_path):
    folders = [
        save_evaluation(tmp_path / home / "run", make_counts(seed=seed))
        for seed, home in enumerate("ab")
    ]
    assert [run.name for run in run_compare(folders).runs] == [str(folder) for folder in folders]


def test_json_holds_every_number_by_name(runs):
    values = json.loads(json.dumps(run_compare(runs).to_json(), allow_nan=False))
    assert values["classes"][1] == {"name": "<b>tree</b>", "index": 1, "num_images": 40}
    assert set(values["runs"][0]["miou"]) == {"value", "low", "high"}
    difference = values["differences"][0]
    assert set(difference["miou"]) == {"value", "low", "high", "probability_above_0"}
    assert difference["per_class"][3] == {"name": "never", "iou": None, "is_significant": False}
    assert difference["per_class"][0]["iou"]["low"] < difference["per_class"][0]["iou"]["high"]
    assert (values["level"], values["num_resamples"], values["seed"]) == (0.95, 1000, 0)
    assert "Holm" in values["method"]


def test_what_else_differs_is_noted(tmp_path, runs):
    counts = make_counts(skill=0.85, seed=1)
    save_evaluation(runs[1], counts, precision="bf16", output_stride=8)
    save_training(runs[0], steps=100, lr=1e-3)
    save_training(runs[1], steps=200, lr=2e-3)
    comparison = run_compare(runs)
    notes = " ".join(comparison.notes)
    assert "precisions, which the difference includes: plain: 32; better: bf16." in notes
    assert "output strides, which the difference includes: plain: 16; better: 8." in notes
    assert "plain: 100 steps of 4 images at 321 px; better: 200 steps" in notes
    assert "Only 40 images" in notes
    assert comparison.differences[0].recipe_changes == ("train.lr: 0.001 → 0.002",)


def test_a_single_class_and_a_few_images_are_stated_not_invented(tmp_path, render):
    for number, seed in ((MIN_IMAGES - 1, 0), (MIN_IMAGES, 0)):
        folders = [
            save_evaluation(
                tmp_path / name,
                make_counts(num_images=number, num_classes=1, skill=skill, seed=seed),
            )
            for name, skill in (("low", 0.7), ("high", 0.9))
        ]
        comparison = run_compare(folders)
        (difference,) = comparison.differences
        assert difference.iou[0].value == difference.miou.value > 0
        if number < MIN_IMAGES:
            assert difference.miou.low is None
            assert not difference.is_significant
            assert "too few images to tell whether high or low is better" in difference.sentence
            assert "have no interval" in comparison.notes[0]
        else:
            assert difference.miou.low < difference.miou.high
        assert "None" not in render(comparison).replace("none", "")


def test_among_many_comparisons_a_lucky_one_is_not_called_significant(tmp_path, runs):
    for seed in range(100):
        lucky = save_evaluation(tmp_path / "lucky", make_counts(skill=0.82, seed=seed))
        (alone,) = run_compare([runs[0], lucky]).differences
        if 0.01 < alone.miou.p_value < 0.045:
            break
    assert alone.is_significant
    among = run_compare([runs[0], *[lucky] * 6]).differences
    assert [difference.miou for difference in among] == [alone.miou] * 6
    assert not any(difference.is_significant for difference in among)
    assert "not significant after correction for 6 comparisons" in among[0].sentence


def rename_image(run):
    path = run / "evaluation/val-counts.jsonl"
    path.write_text(path.read_text().replace("image007", "image700"))


def change(**changes):
    return lambda run: save_evaluation(run, make_counts(skill=0.85, seed=1), **changes)


def spoil(name, content):
    return lambda run: (run / "evaluation" / name).write_text(content)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (rename_image, "images differ, from number 7 on: 'image007' against 'image008'"),
        (
            change(classes=("road", "bush", "kerb", "never")),
            "classes differ.*'<b>tree</b>' aga.*bush",
        ),
        (change(tta=asdict(TTA(flip=True))), "options differ.*no flip.*scale 1, flip"),
        (change(tta=asdict(TTA((0.5, 1)))), "options differ.*scale 1,.*scale 0.5, 1"),
        (change(data_fingerprint="e" * 64), "data fingerprints differ.*atrous evaluate RUN"),
        (change(convention="another"), "conventions differ.*different versions"),
        (
            lambda run: save_evaluation(run, make_counts(num_images=41)),
            "images differ, 40 against 41",
        ),
        (
            lambda run: save_evaluation(run, make_counts(skill=0.85)[::-1].copy()),
            "the mask of the image 'image000' had",
        ),
        (spoil("val.json", "{"), "val.json cannot be read.*atrous evaluate .*better --split val"),
        (spoil("val.json", "[]"), "val.json cannot be read as a JSON object: it is a list"),
        (spoil("val.json", '{"per_class": [{}]}'), "val.json does not.* miou is missing"),
        (change(per_class=[{}]), "per_class.0.name is missing"),
        (change(per_class=3), "per_class = 3: Input should be a valid list"),
        (change(tta=[]), r"tta = \[\]: Input should be"),
        (spoil("val-counts.jsonl", "torn"), "counts per image cannot be read"),
        (spoil("val-counts.jsonl", ""), "no mask of the split has a labelled pixel"),
        (
            lambda run: spoil("val-counts.jsonl", '{"name": "a", "counts": {"0": [1, 0, 0]}}')(run),
            "from two different evaluations",
        ),
        (lambda run: (run / "evaluation/val-counts.jsonl").unlink(), "counts per image cannot"),
    ],
)
def test_what_cannot_be_compared_is_refused_with_reason_and_remedy(runs, damage, message):
    damage(runs[1])
    with pytest.raises(DataError, match=message):
        run_compare(runs)


def test_a_run_without_this_evaluation_is_told_what_to_do(tmp_path, runs):
    save_evaluation(tmp_path / "other", make_counts(), split="test")
    (tmp_path / "new").mkdir()
    with pytest.raises(ConfigError, match=r"other has not .* on 'val' \(only on test\).*evaluate"):
        run_compare([runs[0], tmp_path / "other"])
    with pytest.raises(ConfigError, match=r"new has not been evaluated on 'val'. Run `atrous"):
        run_compare([tmp_path / "new", runs[0]])
    with pytest.raises(ConfigError, match=r"There is no run folder .*none"):
        run_compare([runs[0], tmp_path / "none"])
    with pytest.raises(ConfigError, match="is a file, but compare takes run folders"):
        run_compare([runs[0], runs[0] / "evaluation/val.json"])
    with pytest.raises(ConfigError, match="give two run folders or more"):
        run_compare([runs[0]])
    with pytest.raises(AtrousError, match="resamples are too few"):
        compare(runs, num_resamples=3, cost=False)


def test_a_model_without_output_stride_is_measured_too(runs, monkeypatch, render):
    """U-Net has none; the other was evaluated at another one than it was trained at."""
    strides = []

    def measure_costs(models, size_hw, tta):
        strides.extend(model.options.get("output_stride") for model in models)
        return [
            Cost(1, 1.0, 1.0, (1.0, 1.0), None, size_hw, tta, "32", "here", other_load=0.5)
            for _ in models
        ]

    monkeypatch.setattr(sys.modules["atrous.evaluation.compare"], "measure_costs", measure_costs)
    for folder, name, options in (
        (runs[0], "unet_resnet34", {}),
        (runs[1], "deeplabv3_resnet18", {"output_stride": 32}),
    ):
        model = build_model(name, num_classes=len(CLASSES), **options)
        card = ModelCard(
            name, model.options, build_classes(CLASSES), (0.5,) * 3, (0.25,) * 3, None, {}
        )
        save_weights(folder / "best.safetensors", model, card)
    save_evaluation(runs[0], make_counts(), model="unet_resnet34", output_stride=None)
    comparison = compare(runs, num_resamples=1000)
    assert strides == [None, 16]
    page = render(comparison)
    assert "unet_resnet34</td><td>–" in page
    assert page.count("1.0 ms*</td>") == 2
    assert "* Other programs used 50 % of the processor while the latency was measured" in page
    assert any("plain: not an option; better: 16" in note for note in comparison.notes)


def test_runs_without_weights_are_compared_without_their_cost(runs):
    comparison = compare(runs, num_resamples=1000)
    assert all(run.cost is None for run in comparison.runs)
    assert any("cost was not measured" in note for note in comparison.notes)


def test_the_page_holds_everything_and_asks_no_host(runs, render):
    comparison = run_compare([*runs, runs[0]])
    page = render(comparison)
    assert "&lt;b&gt;tree&lt;/b&gt;" in page
    assert "<b>tree" not in page
    for difference in comparison.differences:
        assert difference.sentence in page
        assert difference.miou.format_interval() in page
    assert page.count("<svg") == page.count("</svg>") > 2 * 3
    assert "http" not in page
    assert "nan" not in page.lower().replace("resonan", "")
