"""The images of a comparison: those in which the runs differ most, side by side."""

import json
import re
import shutil

import numpy as np
import pytest

from atrous.errors import ConfigError
from atrous.evaluation import compare
from atrous.evaluation.image_counts import format_image_counts, load_image_counts
from atrous.evaluation.metrics import compute_miou
from atrous.report.comparison_page import save_comparison_page


def load_counts(run):
    return load_image_counts(run / "evaluation" / "val-counts.jsonl", 3)


@pytest.fixture(scope="module")
def pair(made_run, tmp_path_factory):
    """The run, and another one with more and more pixels right from image to image, but the third.

    The counts of both are made up; the model is the same.
    """
    runs = [shutil.copytree(made_run, tmp_path_factory.mktemp("pair") / name) for name in "ab"]
    for run, step in zip(runs, (0, 40), strict=True):
        counts_path = run / "evaluation" / "val-counts.jsonl"
        images = load_counts(run)
        pixels = images.counts[..., [0, 2]].sum(axis=-1)
        tp = np.minimum(pixels, 100 + step * np.arange(len(pixels))[:, None])
        tp[2] = 100
        counts = np.stack((tp, 0 * tp, pixels - tp), axis=-1)
        lines = map(format_image_counts, images.names, counts)
        counts_path.write_bytes(b"".join(lines))
        scores_path = run / "evaluation" / "val.json"
        scores = json.loads(scores_path.read_text())
        scores["miou"] = float(compute_miou(counts.sum(axis=0)))
        scores_path.write_text(json.dumps(scores))
    return runs


def read_page(pair, path, **options):
    save_comparison_page(compare(pair, cost=False), path, **options)
    return path.read_text(encoding="utf-8")


def test_the_images_that_differ_most_stand_side_by_side(pair, tmp_path):
    html = read_page(pair, tmp_path / "page.html", num_images=5)
    names = re.findall('aria-label="Enlarge ([^"]*)"', html)
    assert names == ["image6", "image5", "image4", "image3", "image1"]
    mious = [dict(zip(r.names, r.compute_miou(), strict=True)) for r in map(load_counts, pair)]
    for name in names:
        row = html[html.index(f"<figcaption>{name}") :].partition("</figure>")[0]
        alts = re.findall(r'(?:alt|aria-label)="([^"]*)"', row)[1:]
        assert alts == [
            f"Image {name}", f"Ground truth of {name}",
            *(f"{layer} of {run} for {name}" for layer in ("Prediction", "Errors") for run in "ab"),
        ]  # fmt: skip
        assert re.findall(r"([ab]), mIoU (0\.\d+)", row) == [
            ("a", f"{mious[0][name]:.3f}"), ("b", f"{mious[1][name]:.3f}"),
        ]  # fmt: skip


def test_the_page_says_why_there_are_no_images(pair, made_run, tmp_path):
    assert "is the same in all runs" in read_page([made_run, made_run], tmp_path / "a.html")
    assert "were not requested" in read_page(pair, tmp_path / "b.html", num_images=0)
    copies = [shutil.copytree(run, tmp_path / run.name) for run in pair]
    (copies[1] / "best.safetensors").unlink()
    html = read_page(copies, tmp_path / "c.html")
    assert "Images cannot be shown." in html
    assert "…/b" in html
    assert str(tmp_path) not in html
    for copy in copies:
        path = copy / "evaluation" / "val.json"
        moved = {**json.loads(path.read_text()), "data": str(tmp_path / "moved")}
        path.write_text(json.dumps(moved))
    assert "shown. There is no folder …/moved" in read_page(copies, tmp_path / "e.html")
    with pytest.raises(ConfigError, match="--num-images takes a number from 0 to 20"):
        read_page(pair, tmp_path / "d.html", num_images=21)
