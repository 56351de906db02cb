"""Training in several processes: the same images, losses and log as in one."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress

import pytest
import torch

from atrous.cli.failures import describe_failure
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

    started = []

    def start(num: int, *options: str, prefix=(), env=()) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [*prefix, sys.executable, "-m", "atrous", "train", recipe.data.root,
             "--recipe", str(tmp_path / "recipe.toml"), "--out", str(tmp_path / "run"),
             "--devices", str(num), *options],
            env={**os.environ, "OMP_NUM_THREADS": "1", **dict(env)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )  # fmt: skip
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()


@pytest.fixture
def hosts():
    """Command prefix and environment of two hosts, and why they are only one if they are."""
    names = [f"atrous{os.getpid()}{side}" for side in "ab"]
    steps = [f"netns add {name}" for name in names]
    steps.append(f"link add eth0 netns {names[0]} type veth peer name eth0 netns {names[1]}")
    for number, name in enumerate(names, start=1):
        steps.append(f"-n {name} addr add 10.0.0.{number}/24 dev eth0")
        steps += [f"-n {name} link set {device} up" for device in ("lo", "eth0")]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        env = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1])}
    prefixes, reason = [[], []], None
    try:
        for step in steps:
            subprocess.run(["ip", *step.split()], check=True, capture_output=True)
        env |= {"MASTER_ADDR": "10.0.0.1", "GLOO_SOCKET_IFNAME": "eth0"}
        prefixes = [["ip", "netns", "exec", name] for name in names]
    except (OSError, subprocess.CalledProcessError) as error:
        reason = f"no network namespaces, so two processes stood for two hosts: {error}"
    yield [(one, env | {"NODE_RANK": str(rank)}) for rank, one in enumerate(prefixes)], reason
    with suppress(OSError):
        for name in names:
            subprocess.run(["ip", "netns", "delete", name], capture_output=True)


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


def test_two_hosts_then_three_processes_then_one_train_as_one(recipe, run_command, hosts, tmp_path):
    train(recipe, tmp_path / "single")
    pairs, reason = hosts
    options = ("--nodes", "2", "--stop-after", "2it")
    both = [run_command(1, *options, prefix=prefix, env=env) for prefix, env in pairs]
    assert [process.wait(300) for process in both] == [0, 0], both[0].stdout.read()
    process = run_command(3, "--stop-after", "1it")
    assert process.wait(300) == 0, process.stdout.read()
    train(recipe, tmp_path / "run")
    plans = [(tmp_path / run / "plan.json").read_text() for run in ("single", "run")]
    assert plans[0] == plans[1]
    for kind, steps, tolerance in (("train", [1, 2, 3, 4], 1e-4), ("val", [2, 4], 1e-3)):
        single, several = read_log(tmp_path / "single", kind), read_log(tmp_path / "run", kind)
        assert [record["step"] for record in several] == steps
        losses = [record["loss"] for record in single]
        assert [record["loss"] for record in several] == pytest.approx(losses, abs=tolerance)
    assert several[0]["miou"] == pytest.approx(single[0]["miou"], abs=1e-3)
    if reason:
        pytest.skip(reason)


def test_a_killed_process_ends_the_others_and_is_named(run_command, tmp_path):
    process = run_command(2, "--for", "100000it", "--batch-size", "auto")
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
    assert "Batch size 8, 4 per process, peak memory" in output
    assert "Traceback" not in output


def test_a_process_of_another_machine_is_named_by_its_address(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    text = "[/gloo/transport/tcp/pair.cc:5] Connection closed by peer [10.0.0.2]:4119. Check the …"
    message = describe_failure(RuntimeError(text))
    assert "is lost: Connection closed by peer [10.0.0.2]:4119. The output" in message


def test_a_batch_that_cannot_be_divided_is_refused(recipe, tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "4")
    with pytest.raises(ConfigError, match="6 images cannot be divided among 4 processes"):
        train(recipe, tmp_path / "run")
    assert not (tmp_path / "run").exists()
