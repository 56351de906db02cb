"""Training in several processes: the same images, losses and log as in one."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
import torch

from atrous.data import open_dataset
from atrous.errors import ConfigError
from atrous.recipe import format_recipe
from atrous.training import train
from atrous.training.batches import load_batches
from atrous.training.distributed import World

pytestmark = pytest.mark.slow  # trains


@pytest.fixture
def recipe(make_recipe):
    return make_recipe(
        model__name="deeplabv3plus_resnet18",
        model__dropout=0.0,
        train__batch_size=6,
        train__optimizer="sgd",
        train__lr=1e-3,
        train__duration="4it",
        train__validate_every="2it",
    )


@pytest.fixture
def run_command(recipe, tmp_path):
    """Start `atrous train` in a number of processes and return the first one."""
    (tmp_path / "recipe.toml").write_text(format_recipe(recipe), encoding="utf-8")

    def start(num_processes: int, *options: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "atrous", "train", recipe.data.root,
             "--recipe", str(tmp_path / "recipe.toml"), "--out", str(tmp_path / "run"),
             "--devices", str(num_processes), *options],
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )  # fmt: skip

    return start


def read_log(run, kind):
    records = map(json.loads, (run / "log.jsonl").read_text().splitlines())
    return [record for record in records if record["kind"] == kind]


def test_the_processes_divide_the_batches_of_one(make_recipe, shapes):
    recipe, dataset = make_recipe(train__batch_size=6), open_dataset(shapes, "train")

    def load(world):
        return load_batches(recipe, dataset, first_step=1, num_steps=3, world=world)

    parts = [load(World(rank, 3)) for rank in range(3)]
    for whole, *batches in zip(load(World()), *parts, strict=True):
        assert whole.names == [name for batch in batches for name in batch.names]
        assert torch.equal(whole.image, torch.cat([batch.image for batch in batches]))


def test_two_then_three_processes_train_as_one(recipe, run_command, tmp_path):
    train(recipe, tmp_path / "single")
    for num, stop_after in ((2, "2it"), (3, "9it")):
        process = run_command(num, "--stop-after", stop_after)
        assert process.wait(300) == 0, process.stdout.read()
    plans = [(tmp_path / run / "plan.json").read_text() for run in ("single", "run")]
    assert plans[0] == plans[1]
    for kind, steps, tolerance in (("train", [1, 2, 3, 4], 1e-4), ("val", [2, 4], 1e-3)):
        single, several = read_log(tmp_path / "single", kind), read_log(tmp_path / "run", kind)
        assert [record["step"] for record in several] == steps
        losses = [record["loss"] for record in single]
        assert [record["loss"] for record in several] == pytest.approx(losses, abs=tolerance)
    assert several[0]["miou"] == pytest.approx(single[0]["miou"], abs=1e-3)


def test_a_killed_process_ends_the_others_and_is_named(run_command, tmp_path):
    process = run_command(2, "--for", "100000it")
    log = tmp_path / "run/log.jsonl"
    while not log.exists() or not read_log(tmp_path / "run", "train"):
        assert process.poll() is None, process.stdout.read()
        time.sleep(0.1)
    children = subprocess.run(
        ["pgrep", "-P", str(process.pid)], capture_output=True, text=True, check=True
    )
    os.kill(int(children.stdout.split()[0]), signal.SIGKILL)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 2
    assert "Process 1 of the training was killed by SIGKILL" in output
    assert "Traceback" not in output


def test_a_batch_that_cannot_be_divided_is_refused(recipe, tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "4")
    with pytest.raises(ConfigError, match="6 images cannot be divided among 4 processes"):
        train(recipe, tmp_path / "run")
    assert not (tmp_path / "run").exists()
