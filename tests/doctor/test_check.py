"""The doctor as a whole: figures, folders that cannot be used, the command, the real sets."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from damage import change_mask, masks, truncate
from PIL import Image

from atrous.data import compute_class_weights, compute_mask_statistics, open_dataset
from atrous.data.shapes import write_shapes
from atrous.doctor import check_dataset
from atrous.doctor.kinds import format_table
from atrous.errors import ConfigError, DataError
from atrous.recipe import DataRecipe
from atrous.training import train
from atrous.training.suggest import suggest_recipe

ROOT = Path(__file__).parents[2]


def test_the_figures_are_those_that_training_counts(make_clean, check):
    root = make_clean()
    change_mask(masks(root)[0], lambda mask: np.where(mask == 3, 255, mask))
    count = check(root).splits["train"]
    statistics = compute_mask_statistics(open_dataset(root, "train"))
    assert [entry.pixels for entry in count.classes] == statistics.pixels
    assert count.ignored_share == statistics.num_ignored / (24 * 112 * 96)
    assert [entry.num_images for entry in count.classes] == [24, 24, 24, 23]
    for method in ("inverse", "median_frequency"):
        weights = compute_class_weights(statistics, method)
        assert [getattr(entry, f"weight_{method}") for entry in count.classes] == weights


def test_workers_change_nothing(make_clean):
    root = make_clean()
    truncate(masks(root)[20])
    seen = []
    reports = [
        check_dataset(root, workers=workers, progress=lambda *done: seen.append(done)).to_json()
        for workers in (1, 3)
    ]
    for report in reports:
        del report["seconds"]
    assert reports[0] == reports[1]
    assert seen == [(16, 32), (32, 32)] * 2


def test_shapes_are_clean(tmp_path):
    write_shapes(tmp_path, num_train=80, num_val=30, size_px=128, seed=1)
    report = check_dataset(DataRecipe(root=str(tmp_path), crop=128), workers=1)
    assert report.findings == []
    assert report.exit_code == 0


def make_empty_split(root):
    (root / "train/images").mkdir(parents=True)


def make_broken_classes(root):
    make_empty_split(root)
    Image.new("RGB", (9, 9)).save(root / "train/images/a.png")
    (root / "classes.toml").write_text("names = 3")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda root: root.rmdir(), "There is no folder"),
        (lambda root: None, "Three layouts are known"),
        (lambda root: (root / "a.txt").touch(), "it holds a.txt"),
        (make_empty_split, "holds no images"),
        (make_broken_classes, "needs `names`"),
    ],
)
def test_folders_that_cannot_be_used(tmp_path, atrous, make, message):
    root = tmp_path / "data"
    root.mkdir()
    make(root)
    with pytest.raises(DataError, match=message):
        check_dataset(root)
    code, errors = atrous("check", root)
    assert code == 2
    assert "Traceback" not in errors


def test_options_out_of_range(make_clean, atrous):
    with pytest.raises(ConfigError, match="at least 1"):
        check_dataset(make_clean(), workers=0)
    with pytest.raises(ConfigError, match="No data is given"):
        check_dataset("")
    code, errors = atrous("check")
    assert (code, "No data is given" in errors) == (2, True)


def test_one_image_and_nothing_else(tmp_path, check):
    for folder, value in (("images", 9), ("masks", 0)):
        (tmp_path / "train" / folder).mkdir(parents=True)
        Image.new("L", (1, 1), value).save(tmp_path / "train" / folder / "a.png")
    codes = {finding.code for finding in check(tmp_path).findings}
    assert codes == {"refused-split", "single-class", "constant-image", "small-for-crop"}


def test_the_command(make_clean, atrous, tmp_path):
    root = make_clean()
    code, out = atrous("check", root, "--crop", 96, "--workers", 1)
    assert (code, "No findings." in out) == (0, True)
    truncate(root / "train/images/p01.jpg")
    arguments = ["check", root, "--crop", 96, "--workers", 1]
    code, out = atrous(*arguments, "--fix", tmp_path / "repaired", "--json", tmp_path / "a/b.json")
    assert code == 1
    for text in ("error Files that cannot be read", "train/images/p01.jpg", "Why:", "Fix:"):
        assert text in out
    assert "Corrected copy" in out
    assert atrous("check", tmp_path / "repaired", "--crop", 96, "--workers", 1)[0] == 0
    code, printed = atrous(*arguments, "--json", "-")
    assert code == 1
    findings = json.loads(printed.out)["findings"]
    assert findings == json.loads((tmp_path / "a/b.json").read_text())["findings"]
    finding = findings[0]
    assert set(finding) == {
        "code", "level", "title", "summary", "why", "fix", "num_files", "files", "data"
    }  # fmt: skip


def test_the_command_refuses_bad_places_before_it_reads(make_clean, atrous, tmp_path):
    root = make_clean()
    code, errors = atrous("check", root, "--fix", root / "repaired")
    assert code == 2
    assert "inside the dataset" in errors
    (tmp_path / "file").touch()
    code, errors = atrous("check", root, "--html", tmp_path / "file" / "a.html")
    assert code == 2
    assert "cannot be written" in errors


def test_the_document_is_in_step_with_the_code():
    document = (ROOT / "docs/doctor.md").read_text(encoding="utf-8")
    assert format_table() in document, "run: python docs/update_findings.py"


def test_advice_on_splits_can_be_followed(make_clean, atrous, tmp_path):
    root = make_clean()
    (root / "val").rename(root / "valid")
    code, printed = atrous("check", root, "--workers", 1, "--crop", 96)
    assert (code, "(refused-split)" in printed) == (1, True)
    with pytest.raises(DataError, match="no split 'val'"):
        train(make_recipe(root), tmp_path / "run")
    arguments = ("--crop", 96, "--val-split", "valid")
    assert atrous("check", root, "--workers", 1, *arguments)[0] == 0


def test_the_settings_are_those_of_training(make_clean, atrous, tmp_path):
    root = make_clean()
    _, printed = atrous("check", root, "--workers", 1, "--json", "-")
    suggested = suggest_recipe(root)["data"]
    assert json.loads(printed.out)["crop"] == suggested["crop"] == 112
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(f"[data]\nroot = '{root}'\ncrop = 40\nval_split = 'valid'\n")
    code, printed = atrous("check", "--recipe", recipe, "--workers", 1, "--json", "-")
    report = json.loads(printed.out)
    assert (report["crop"], [f["code"] for f in report["findings"]]) == (40, ["refused-split"])
    code, _ = atrous("check", "--recipe", recipe, "--val-split", "val", "--workers", 1)
    assert code == 0


def test_selected_classes_are_counted_as_they_are_learned(make_clean, atrous, check, tmp_path):
    root = make_clean()
    selection = {"classes": ("bar", "shape"), "other": "rest", "merge": {"shape": ("disc", "box")}}
    report = check(root, **selection)
    dataset = open_dataset(root, "train").select(report.survey.data.class_selection)
    statistics = compute_mask_statistics(dataset)
    classes = report.splits["train"].classes
    assert [entry.name for entry in classes] == ["rest", "bar", "shape"]
    assert [entry.pixels for entry in classes] == statistics.pixels
    weights = compute_class_weights(statistics, "inverse")
    assert [entry.weight_inverse for entry in classes] == weights
    recipe = tmp_path / "recipe.toml"
    recipe.write_text("[data]\nclasses = ['bar', 'shape']\nmerge.shape = ['disc', 'box']\n")
    arguments = ("check", root, "--recipe", recipe, "--workers", 1, "--crop", 96)
    assert (
        "Classes to learn: bar, shape (disc, box); pixels of other classes are ignored."
        in atrous(*arguments)[1]
    )
    recipe.write_text("[data]\nclasses = ['baz']\n")
    code, errors = atrous(*arguments)
    assert (code, "no class 'baz'. Did you mean 'bar'" in errors) == (2, True)


def test_hundreds_of_splits_are_not_hundreds_of_tables(make_clean, atrous):
    root = make_clean()
    for number in range(30):
        shutil.copytree(root / "val", root / f"sample{number}")
    shutil.rmtree(root / "train")
    _, printed = atrous("check", root, "--workers", 1)
    out = printed.out
    assert out.count("class in ") == 4
    assert "27 further splits" in out
    assert len(out.splitlines()) < 120


def make_binary(root):
    for path in masks(root):
        change_mask(path, lambda mask: 255 * (mask > 0).astype(np.uint8))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (make_binary, "0 and 255 only"),
        (lambda root: truncate(root / "train/images/p01.jpg"), "cannot be used: p01"),
        (lambda root: (root / "train/masks/p01.png").unlink(), "have no mask"),
    ],
)
def test_training_refuses_and_names_the_doctor(make_clean, tmp_path, make, message):
    root = make_clean(classes_file=False)
    make(root)
    with pytest.raises(DataError, match=message) as caught:
        train(make_recipe(root), tmp_path / "run")
    assert f"atrous check {root}" in str(caught.value)
    assert not (tmp_path / "run").exists()


def make_recipe(root):
    from atrous.recipe import build_recipe

    return build_recipe({"data": {"root": str(root), "crop": 48}})


def test_camvid(real_data):
    report = check_dataset(real_data / "camvid")
    found = {finding.code: finding for finding in report.findings}
    assert set(found) == {"near-duplicates", "series-across"}
    assert "'0016E5': 101 of 'val', 204 trained on" in found["series-across"].summary
    assert report.exit_code == 1


@pytest.mark.slow
def test_voc_animals(real_data):
    report = check_dataset(real_data / "voc-animals")
    found = {finding.code: finding for finding in report.findings}
    assert "class-unused" in found
    assert "aeroplane" in found["class-unused"].summary
    assert not [finding.code for finding in report.findings if finding.level == "error"]
