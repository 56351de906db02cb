"""Curves of every kind of log, down to an empty one."""

import json
import math

import pytest
from PIL import Image

from atrous.errors import ConfigError
from atrous.figures import save_loss_curves
from atrous.figures.panels import MAX_POINTS


def write_log(folder, num_steps, starts=(0,), bad_steps=()):
    with open(folder / "log.jsonl", "w", encoding="utf-8") as log:
        for step in starts:
            log.write(json.dumps({"kind": "session", "event": "start", "step": step}) + "\n")
        for step in range(1, num_steps + 1):
            loss = math.nan if step in bad_steps else 1 / step
            train = {"kind": "train", "step": step, "epoch": step / 10, "loss": loss, "lr": 1e-3}
            log.write(json.dumps(train) + "\n")
            if step % 10 == 0:
                val = {"kind": "val", "step": step, "epoch": step / 10, "loss": loss, "miou": 0.5}
                log.write(json.dumps(val) + "\n")


@pytest.mark.parametrize(
    "log",
    [
        {"num_steps": 0},
        {"num_steps": 1},
        {"num_steps": 45, "bad_steps": range(20, 31)},
        {"num_steps": 3, "bad_steps": range(9)},
        {"num_steps": 200, "starts": [0, 0, *range(5, 200, 12)]},
        {"num_steps": 0, "starts": [0, 0]},
    ],
)
@pytest.mark.filterwarnings("error")
def test_every_log_gives_an_image(tmp_path, log):
    write_log(tmp_path, **log)
    png, svg = save_loss_curves(tmp_path)
    with Image.open(png) as image:
        assert min(image.size) >= 600
    assert "<svg" in svg.read_text()
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "curves.png", "curves.svg", "log.jsonl",
    ]  # fmt: skip


def test_the_same_log_gives_the_same_bytes(tmp_path):
    write_log(tmp_path, 30, starts=[0, 12])
    first = [path.read_bytes() for path in save_loss_curves(tmp_path)]
    assert [path.read_bytes() for path in save_loss_curves(tmp_path)] == first


def test_a_line_torn_by_a_crash_is_passed_over(tmp_path):
    write_log(tmp_path, 12)
    whole = [path.read_bytes() for path in save_loss_curves(tmp_path)]
    with open(tmp_path / "log.jsonl", "a", encoding="utf-8") as log:
        log.write('{"kind": "train", "st')
    assert [path.read_bytes() for path in save_loss_curves(tmp_path)] == whole


def test_long_logs_are_thinned_out(tmp_path):
    write_log(tmp_path, 20 * MAX_POINTS)
    _, svg = save_loss_curves(tmp_path)
    assert svg.stat().st_size < 500_000


def test_no_log_is_an_error_that_names_it(tmp_path):
    with pytest.raises(ConfigError, match=r"log\.jsonl"):
        save_loss_curves(tmp_path)
