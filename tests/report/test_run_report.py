"""The page of a run: what it shows, what it says where something is missing, what it refuses."""

import json
import re
import shutil
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
import torch
from PIL import Image

from atrous.classes import ClassSelection, build_classes
from atrous.data import Sample
from atrous.engines import TorchEngine
from atrous.errors import AtrousError, ConfigError, DataError
from atrous.evaluation import evaluate
from atrous.evaluation.run_reader import load_run
from atrous.models import load_model, save_weights
from atrous.report import gallery, run_figures, save_run_report
from atrous.report.html import format_data_uri

COMMAND = "atrous evaluate"
NUM_IMAGES = 7


class Page(HTMLParser):
    """Text, tags and references of a page."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.texts, self.hidden = [], [], 0
        self.feed(html)
        self.text = " ".join(" ".join(self.texts).split())

    def handle_starttag(self, tag, attrs):
        self.hidden += tag in ("script", "style")
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        self.hidden -= tag in ("script", "style")

    def handle_data(self, data):
        if not self.hidden:
            self.texts.append(data)

    def find(self, tag, **attributes):
        return [
            attrs
            for name, attrs in self.tags
            if name == tag and all(attrs.get(key) == value for key, value in attributes.items())
        ]


def read(path):
    return Page(path.read_text(encoding="utf-8"))


def test_one_file_holds_everything(run):
    done = []
    path = save_run_report([run], num_images=1, device="cpu", progress=lambda *at: done.append(at))
    assert path == run / "report.html"
    assert path.stat().st_size < 1_000_000
    page = read(path)
    for text in (
        "words of the recipe", "9.8.7", "Testnix", "abcdef0123456789",  # what was run
        "red", "green", "blue", "0.432", "0.046", "1.5", "0.777", "0.314", "0.272", "0.162",
        "Training is finished: 40 steps.", "2 sessions", "somebody", "small",
    ):  # fmt: skip
        assert text in page.text, text
    scores = json.loads((run / "evaluation" / "val.json").read_text())
    assert f"{scores['miou']:.3f}" in page.text
    labels = " ".join(attrs["aria-label"] for attrs in page.find("svg"))
    for word in (
        "loss",
        "validation",
        "Learning",
        "second",
        "IoU",
        "Confusion",
        "accuracy",
        "confident",
    ):
        assert word in labels
    assert done == [(1, 3), (2, 3), (3, 3)]
    assert len(page.find("figure", **{"class": "row single"})) == 3
    assert len(page.find("img")) == 3 * 4
    assert [attrs["value"] for attrs in page.find("input", type="radio")] == [
        "prediction", "errors", "confidence",
    ]  # fmt: skip


def test_a_page_can_be_sent_without_telling_about_folders_and_kernel(run, made_run, change_scores):
    """Neither in the facts nor in the recipe nor in what could not be shown."""
    data = made_run.parent / "data"
    for wanted in (data, data.with_name("moved")):
        change_scores(lambda scores, wanted=wanted: {**scores, "data": str(wanted)})
        html = save_run_report([run], num_images=1, device="cpu").read_text(encoding="utf-8")
        text = Page(html).text
        assert str(made_run.parent) not in html
        assert str(run.parent) not in html
        assert "glibc" not in html
        assert "root = '…/data'" in text
        assert "Testnix, arm64, no GPU, 3 threads" in text
    assert "There is no folder …/moved" in text


def test_chart_and_table_have_the_same_order(run, change_scores):
    """The best class first, those in no mask last."""

    def change(scores):
        rows = scores["per_class"]
        ious = (0.2, None, 0.9)
        return {
            **scores,
            "per_class": [{**r, "iou": iou} for r, iou in zip(rows, ious, strict=True)],
        }

    change_scores(change)
    html = save_run_report([run], num_images=0).read_text(encoding="utf-8")
    table = html[html.index("Scores of each class") :]
    assert re.findall(r'<th scope="row">(\w+)</th>', table)[:3] == ["blue", "red", "green"]
    chart = run_figures.build_run_figures(load_run(run))["class-scores"].figure
    assert [text.get_text() for text in chart.axes[0].get_yticklabels()] == ["blue", "red"]


def test_the_ledger_has_only_rows_that_say_something(run):
    html = save_run_report([run], num_images=0).read_text(encoding="utf-8")
    ledger = html[html.index('id="run1-ledger"') : html.index('id="run1-conditions"')]
    rows = re.findall(r"<tr>(.*?)</tr>", ledger, re.DOTALL)[1:]
    assert rows
    assert all("arXiv" in row and "–" not in row for row in rows)
    assert "without a measured effect: " in ledger


def test_a_run_of_merged_classes_is_shown_on_data_that_has_them(run, made_run, tmp_path):
    """As `evaluate` does: such data is not merged once more."""
    data = shutil.copytree(made_run.parent / "data", tmp_path / "merged")
    (data / "classes.toml").write_text('names = ["warm", "green", "blue"]\nignore_index = 9\n')
    with open(run / "recipe.toml", "a", encoding="utf-8") as recipe:
        recipe.write('[data.merge]\nwarm = ["red"]\n')
    model = load_model(run)
    classes = build_classes(["warm", "green", "blue"], model.card.classes.colors)
    selection = ClassSelection(merge={"warm": ("red",)})
    card = replace(model.card, classes=classes, selection=selection)
    save_weights(run / "best.safetensors", model, card)
    evaluate(run, data, device="cpu")
    page = read(save_run_report([run], num_images=1, device="cpu"))
    assert len(page.find("figure", **{"class": "row single"})) == 3


def test_nothing_is_asked_of_another_file_or_host(run):
    html = save_run_report([run], num_images=1, device="cpu").read_text(encoding="utf-8")
    page = Page(html)
    for _, attrs in page.tags:
        for key in ("src", "href", "xlink:href", "action", "srcset", "data"):
            assert attrs.get(key, "#").startswith(("#", "data:")), attrs
    assert not re.findall(r"url\((?!#|data:)|@import|fetch\(|XMLHttpRequest", html)
    anchors = {attrs["href"][1:] for attrs in page.find("a")}
    ids = [attrs["id"] for _, attrs in page.tags if "id" in attrs]
    assert anchors <= set(ids)
    assert len(ids) == len(set(ids))


def write_counts(run, per_image):
    lines = [
        json.dumps({"name": f"p{index}", "counts": counts}) + "\n"
        for index, counts in enumerate(per_image)
    ]
    (run / "evaluation" / "val-counts.jsonl").write_text("".join(lines))


def test_images_are_ranked_by_their_own_score(run):
    hits = [3, 9, 1, 7, 5, 2, 8]
    counts = [{"0": [hit, 10 - hit, 10 - hit]} for hit in hits]
    write_counts(run, [{}, *counts, {"1": [0, 4, 0]}])  # two have no labelled pixel
    chosen = gallery.choose_images(load_run(run), 2)
    assert chosen == {
        "best": ["p2", "p7"],
        "median": ["p4", "p5"],
        "worst": ["p3", "p6"],
    }
    all_of_them = gallery.choose_images(load_run(run), 3)
    assert all_of_them == {"all": ["p2", "p7", "p4", "p5", "p1", "p6", "p3"]}
    assert gallery.choose_images(load_run(run), 0) == {}


def test_layers_show_ground_truth_prediction_errors_and_confidence(color_model):
    true = torch.zeros(40, 60, dtype=torch.uint8)
    true[20:] = 2
    true[:, :10] = 255
    image = torch.zeros(3, 40, 60, dtype=torch.uint8)
    image[0, :20] = 255
    image[2, 20:] = 255
    image[:, 20:30, 30:] = torch.tensor([0, 255, 0], dtype=torch.uint8)[:, None, None]
    tta = gallery.render_layers(
        TorchEngine(color_model), Sample(image, true, "one"), 0.5, 1.0, max_side_px=60
    )
    wrong = np.zeros((40, 60, 4), np.uint8)
    wrong[20:30, 30:] = (*gallery.WRONG, 255)
    wrong[:, :10] = (*gallery.IGNORED, 255)
    seen = np.array(tta.layers["errors"].convert("RGBA"))
    seen[seen[..., 3] == 0] = 0
    assert (seen == wrong).all()
    shown = np.array(tta.layers["ground truth"].convert("RGBA"))
    assert (shown[:, :10, 3] == 0).all()
    assert (shown[30, 50] == [0, 0, 255, 255]).all()
    assert (np.array(tta.layers["prediction"].convert("RGBA"))[25, 50, :3] == [0, 255, 0]).all()
    opacity = np.array(tta.layers["confidence"].convert("RGBA"))[..., 3]
    probability = np.exp(1) / (np.exp(1) + 2 * np.exp(-1))  # of the right colour, by the weights
    assert opacity == pytest.approx(255 * (1 - probability), abs=5)
    assert tta.class_indices == {0, 1, 2}
    smaller = gallery.render_layers(
        TorchEngine(color_model), Sample(image, true, "one"), 0.5, 1.0, max_side_px=30
    )
    assert {layer.size for layer in [smaller.image, *smaller.layers.values()]} == {(30, 20)}


def test_even_noise_stays_within_the_budget(color_model):
    random = torch.Generator().manual_seed(0)
    image = torch.randint(0, 256, (3, 200, 200), dtype=torch.uint8, generator=random)
    true = torch.randint(0, 3, (200, 200), dtype=torch.uint8, generator=random)
    tta = gallery.render_layers(
        TorchEngine(color_model), Sample(image, true, "noise"), 0.1, 1.0, max_side_px=640
    )
    size = sum(len(format_data_uri(layer)) for layer in [tta.image, *tta.layers.values()])
    assert size < gallery._BYTES_PER_PIXEL * 200 * 200
    assert gallery._MAX_BYTES < 8_000_000


@pytest.mark.parametrize(
    ("keys", "says"),
    [
        (["confusion"], "has no confusion matrix"),
        (["confidence"], "has no confidence scores"),
        (["boundary", "objects"], "Edges and objects were not scored"),
        (
            ["conventions", "convention", "tta", "training", "precision", "mean_class_accuracy"],
            "",
        ),
    ],
)
def test_a_part_that_is_missing_or_null_is_left_out_and_said(run, keys, says, change_scores):
    change_scores(lambda scores: {**scores, **dict.fromkeys(keys)})
    assert says in read(save_run_report([run], num_images=0)).text
    change_scores(lambda scores: {key: value for key, value in scores.items() if key not in keys})
    text = read(save_run_report([run], num_images=0)).text
    assert says in text
    assert not says or COMMAND in text


def test_data_or_weights_that_are_gone_are_said(run, made_run, tmp_path, change_scores):
    change_scores(lambda scores: {**scores, "data": str(tmp_path / "moved")})
    page = read(save_run_report([run], device="cpu"))
    assert not page.find("img")
    assert "There is no folder …/moved" in page.text
    change_scores(lambda scores: {**scores, "data": str(made_run.parent / "data")})
    (run / "best.safetensors").unlink()
    assert "holds neither best.safetensors nor" in read(save_run_report([run])).text
    (run / "evaluation" / "val-counts.jsonl").unlink()
    assert "counts per image cannot be read" in read(save_run_report([run])).text


def test_other_files_than_were_scored_are_said(run, change_scores):
    change_scores(lambda scores: {**scores, "data_fingerprint": "other"})
    text = read(save_run_report([run], num_images=1, device="cpu")).text
    assert "The files of the split changed after the evaluation" in text
    assert "changed in between" in text


@pytest.mark.parametrize(
    ("log", "says"),
    [
        ({"num_steps": 0, "ending": None}, "has not logged a step yet"),
        ({"num_steps": 7, "ending": None, "validates": False}, "at step 7 of 40"),
        ({"num_steps": 7, "ending": "stop-after"}, "Training stopped (stop-after) at step 7"),
        ({"num_steps": 30, "ending": "SIGTERM", "bad_steps": range(5, 9)}, "was not finite"),
    ],
)
def test_a_run_in_training_is_reported_as_far_as_it_is(run, log, says, change_log):
    shutil.rmtree(run / "evaluation")
    change_log(**log)
    page = read(save_run_report([run]))
    assert says in page.text
    assert "has not been evaluated yet" in page.text
    assert ("No validation has been logged yet" in page.text) == (log["num_steps"] == 7)


def test_a_folder_without_plan_and_log_is_reported(run):
    (run / "plan.json").unlink()
    (run / "log.jsonl").unlink()
    assert "No step has been logged yet" in read(save_run_report([run], num_images=0)).text


def test_a_finished_run_without_evaluation_is_refused_by_the_command(run):
    shutil.rmtree(run / "evaluation")
    with pytest.raises(ConfigError, match=rf"not been evaluated.*`{COMMAND} {run} --split val`"):
        save_run_report([run])
    assert not (run / "report.html").exists()


def test_another_split_is_named_or_taken_if_it_is_the_only_one(run):
    with pytest.raises(ConfigError, match=rf"`{COMMAND} .* --split test`"):
        save_run_report([run], split="test")
    for path in (run / "evaluation").iterdir():
        path.rename(path.with_name(path.name.replace("val", "test", 1)))
    change = json.loads((run / "evaluation" / "test.json").read_text())
    (run / "evaluation" / "test.json").write_text(json.dumps({**change, "split": "test"}))
    assert "scored on test" in read(save_run_report([run], num_images=0)).text
    (run / "evaluation" / "train.json").write_text("{}")
    with pytest.raises(ConfigError, match="evaluated on test, train: choose one with --split"):
        save_run_report([run])


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ('{"miou": 0.', "cannot be read as a JSON object"),
        ("[1, 2]", "cannot be read as a JSON object: it is a list"),
        ('{"miou": 0.5}', "pixel_accuracy is missing; per_class is missing"),
    ],
)
def test_a_damaged_evaluation_is_refused_by_its_file(run, content, says):
    (run / "evaluation" / "val.json").write_text(content)
    with pytest.raises(DataError, match=rf"val\.json.*{says}"):
        save_run_report([run])


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("miou", "high"),
        ("per_class", []),
        ("per_class", [{"name": "a"}]),
        ("confusion", [5]),
        ("confidence", {"bins": [{"low": 0}]}),
        ("boundary", {"trimap": [3]}),
        ("objects", {"area": "small"}),
        ("conventions", ["x"]),
        ("absent", 3),
        ("seconds", "long"),
    ],
)
def test_an_evaluation_with_wrong_values_is_refused_by_file_and_key(run, key, value, change_scores):
    change_scores(lambda scores: {**scores, key: value})
    with pytest.raises(DataError, match=rf"val\.json does not hold.*{key}.*Evaluate again"):
        save_run_report([run])


@pytest.mark.parametrize("content", ['{"total_steps": "x"}', '{"steps_per_epoch": 0}'])
def test_a_plan_with_wrong_values_is_refused_by_its_file(run, content):
    (run / "plan.json").write_text(content)
    with pytest.raises(DataError, match=r"plan\.json does not hold what was expected"):
        save_run_report([run])


def test_what_is_no_run_is_refused(tmp_path, run):
    with pytest.raises(ConfigError, match=r"holds no recipe\.toml"):
        save_run_report([tmp_path])
    with pytest.raises(ConfigError, match="is no folder"):
        save_run_report([run, tmp_path / "nothing"])
    with pytest.raises(ConfigError, match="no run to report on"):
        save_run_report([])
    with pytest.raises(ConfigError, match="--num-images takes a number from 0 to"):
        save_run_report([run], num_images=-1)
    with pytest.raises(ConfigError, match="no such device"):
        save_run_report([run], device="abacus")
    assert not (run / "report.html").exists()


def test_a_file_that_cannot_be_written_is_named(run, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(AtrousError, match=r"cannot be written to .*file/page\.html"):
        save_run_report([run], out=tmp_path / "file" / "page.html", num_images=0)
    with pytest.raises(AtrousError, match=r"figure cannot be written to .*file"):
        save_run_report([run], figures=tmp_path / "file", num_images=0)


def test_several_runs_stand_beside_each_other(run, made_run, tmp_path, monkeypatch, change_scores):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(run_figures, "FORMATS", ("png",))
    change_scores(lambda scores: {**scores, "miou": 0.98765, "data_fingerprint": "other"})
    path = save_run_report([run, made_run], num_images=0, figures="figures")
    assert path.resolve() == tmp_path / "report.html"
    page = read(path)
    assert "2 runs" in page.text
    assert "0.9877" in page.text
    assert "were evaluated on different files" in page.text
    ids = [attrs["id"] for _, attrs in page.tags if "id" in attrs]
    assert len(ids) == len(set(ids))
    assert sorted(folder.name for folder in (tmp_path / "figures").iterdir()) == [
        "tiny-1", "tiny-2",
    ]  # fmt: skip


def test_figures_come_in_three_formats(run, tmp_path):
    save_run_report([run], out=tmp_path / "page.html", figures=tmp_path / "figures", num_images=0)
    stems = {path.stem for path in (tmp_path / "figures").iterdir()}
    assert stems == {
        "loss", "validation", "learning-rate", "throughput", "class-scores", "confusion",
        "reliability", "risk-coverage",
    }  # fmt: skip
    for stem in stems:
        with Image.open(tmp_path / "figures" / f"{stem}.png") as image:
            assert image.width > 600
        assert (tmp_path / "figures" / f"{stem}.pdf").read_bytes().startswith(b"%PDF")
        assert "<svg" in (tmp_path / "figures" / f"{stem}.svg").read_text()


def test_names_from_files_cannot_become_markup(run, change_scores):
    def rename(scores):
        rows = [
            {**row, "name": f"<script>alert({row['index']})</script>"}
            for row in scores["per_class"]
        ]
        return {**scores, "per_class": rows, "data": "<b>x</b>"}

    change_scores(rename)
    (run / "recipe.toml").write_text(
        (run / "recipe.toml").read_text() + "# </pre><script>alert(9)</script>\n"
    )
    page = read(save_run_report([run]))
    assert len(page.find("script")) == 2
    assert "<script>alert(1)</script>" in page.text
    assert not page.find("b")


def test_one_class_and_one_without_pixels(run, change_scores):
    def shrink(scores):
        first, second = scores["per_class"][:2]
        nothing = dict.fromkeys(("iou", "precision", "recall", "f1"))
        second = {**second, **nothing, "pixels": 0}
        return {
            **scores,
            "per_class": [first, second],
            "absent": [second["name"]],
            "confusion": [[7, 3], [0, 0]],
        }

    change_scores(shrink)
    text = read(save_run_report([run], num_images=0)).text
    assert "30 % of red is predicted as green" in text
    assert "Classes in no mask of this split, left out of every mean: green" in text


def test_fewer_images_than_asked_are_shown_once_each(run):
    page = read(save_run_report([run], num_images=3, device="cpu"))
    assert len(page.find("img")) == 4 * NUM_IMAGES
    assert "all images are shown" in page.text
