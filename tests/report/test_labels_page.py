"""`atrous check --model`: the page in a browser, the lists, and what it refuses."""

import csv
import json
import re

import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from PIL import Image

from atrous.data import open_dataset
from atrous.engines import open_engine
from atrous.evaluation import label_quality

COLORS = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255]], np.uint8)
WRONG = "img05"


@pytest.fixture
def model_file(color_model, tmp_path, monkeypatch):
    """A weights file in whose place the model of colours is opened."""
    path = tmp_path / "run" / "best.safetensors"
    path.parent.mkdir()
    path.touch()

    def open_it(given, **options):
        return open_engine(color_model if given in (path, path.parent) else given, **options)

    monkeypatch.setattr(label_quality, "open_engine", open_it)
    return path


@pytest.fixture
def labels(tmp_path):
    """Images whose colours are their classes; one blue region is labelled green."""
    root = tmp_path / "a <b> set"
    for part in ("images", "masks"):
        (root / "val" / part).mkdir(parents=True)
    (root / "classes.toml").write_text('names = ["red", "green", "blue"]\nignore_index = 9\n')
    rng = np.random.default_rng(0)
    for index in range(16):
        seen = np.zeros((60, 80), np.uint8)
        for value, left in ((1, 8), (2, 44)):
            top = rng.integers(4, 20)
            seen[top : top + rng.integers(16, 36), left : left + rng.integers(12, 30)] = value
        mask = seen.copy()
        if f"img{index:02}" == WRONG:
            mask[seen == 2] = 1
        mask[:, :3] = 9
        Image.fromarray(COLORS[seen]).save(root / "val" / "images" / f"img{index:02}.png")
        Image.fromarray(mask).save(root / "val" / "masks" / f"img{index:02}.png")
    return root


def test_lists_name_file_box_and_classes(atrous, labels, model_file, tmp_path):
    options = ("--json", tmp_path / "l.json", "--csv", tmp_path / "l.csv")
    code, printed = atrous("check", labels, "--model", model_file, *options)
    assert code == 0, printed
    assert "1 of 48 label regions are probably wrong, in 1 of 16 images." in printed
    values = json.loads((tmp_path / "l.json").read_text())
    assert (values["num_suspects"], values["num_regions"]) == (1, 48)
    first = values["regions"][0]
    seen = np.asarray(Image.open(labels / first["file"]))[..., 2] == 255
    rows, columns = np.nonzero(seen)
    assert first["box"] == [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    assert (first["given"], first["suggested"]) == ("green", "blue")
    assert values["images"][0]["file"] == f"val/images/{WRONG}.png"
    with (tmp_path / "l.csv").open() as file:
        row = next(csv.DictReader(file))
    assert [int(row[side]) for side in ("left", "top", "right", "bottom")] == first["box"]
    assert (row["file"], row["suggested"]) == (first["file"], "blue")


@pytest.mark.browser
@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_is_whole_and_accessible(
    atrous, browser, labels, model_file, tmp_path, width, scheme
):
    path = tmp_path / "labels.html"
    assert atrous("check", labels, "--model", model_file, "--html", path)[0] == 0
    text = path.read_text()
    assert str(labels.parent) not in text, "a page that is sent shows no folders"
    assert "a &lt;b&gt; set" in text
    assert "<b>" not in text
    for source in re.findall(r'(?:src|href)="([^"]{0,40})', text):
        assert source.startswith("data:")
    viewport = {"width": width, "height": 900}
    page = browser.new_page(viewport=viewport, color_scheme=scheme, offline=True)
    page.goto(path.as_uri())
    assert page.locator("section.region img").count() == 3
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.locator("summary").click()
    results = Axe().run(page)
    assert results.violations_count == 0, results.generate_report()
    page.close()


def test_what_does_not_fit_is_refused(atrous, labels, model_file):
    code, printed = atrous("check", labels, "--csv", "list.csv")
    assert (code, "--csv: used only with --model RUN or --folds 5" in printed) == (2, True)
    code, printed = atrous("check", labels, "--model", model_file, "--folds", 2)
    assert (code, "give one of them" in printed) == (2, True)
    code, printed = atrous("check", labels, "--model", model_file, "--fix", "out")
    assert (code, "labels, which --fix would not change" in printed) == (2, True)
    (labels / "classes.toml").write_text('names = ["red", "green", "blue", "pink"]\n')
    code, printed = atrous("check", labels, "--model", model_file)
    assert code == 2
    assert "4 classes (red, green, blue, pink)" in printed
    assert "trained for 3 (red, green, blue)" in printed
    code, printed = atrous("check", labels, "--model", labels / "none")
    assert (code, "no run folder or weights file" in printed) == (2, True)


def test_a_model_that_was_trained_on_the_labels_is_warned_of(atrous, labels, model_file):
    plan = {"train_fingerprint": open_dataset(labels, "val").fingerprint()}
    (model_file.parent / "plan.json").write_text(json.dumps(plan))
    code, printed = atrous("check", labels, "--model", model_file.parent)
    assert code == 0
    assert "was trained on the split 'val'" in printed
