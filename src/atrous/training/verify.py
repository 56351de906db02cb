"""Proof that a recipe resumes exactly on this machine: kill it, go on, compare everything."""

import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from atrous.errors import TrainingError
from atrous.files import write_atomically
from atrous.recipe import Recipe, format_recipe
from atrous.run import RunFolder, load_log
from atrous.training.checkpoint import (
    compute_file_sha256,
    compute_state_sha256,
    load_newest_checkpoint,
)

VOLATILE = frozenset({"step_s", "val_s"})
"""Logged times, which are no part of what a run computes."""


@dataclass(frozen=True)
class Comparison:
    """One thing that both runs must agree on; `difference` is empty if they do."""

    name: str
    uninterrupted: str
    interrupted: str
    difference: str


@dataclass(frozen=True)
class Verification:
    """What came out of the two runs.

    Attributes:
        kills: Step after which each kill fell, as far as the log told.
        comparisons: What was compared.
    """

    kills: list[int]
    comparisons: list[Comparison]

    @property
    def is_exact(self) -> bool:
        """Whether nothing differs."""
        return not any(comparison.difference for comparison in self.comparisons)


def verify_resume(
    recipe: Recipe,
    folder: Path,
    *,
    num_kills: int = 3,
    seed: int = 0,
    tell: Callable[[str], None] = lambda message: None,
) -> Verification:
    """Train a recipe twice, once killed again and again, and compare what is left.

    Each kill is a `kill -9` of the process at a random moment, and each session after it has
    another number of workers.

    Args:
        recipe: What to train; a short duration in steps or epochs will do.
        folder: Where the two run folders are made; must not hold them yet.
        num_kills: How often the second run is killed.
        seed: Of the moments.
        tell: Called with a line on what is being done.

    Raises:
        TrainingError: A run failed by itself; the message holds what it printed.
    """
    whole, broken = RunFolder(folder / "uninterrupted"), RunFolder(folder / "interrupted")
    recipe_path = folder / "recipe.toml"
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(recipe_path, lambda file: file.write(format_recipe(recipe).encode()))
    tell("training without interruption")
    started_s = time.monotonic()
    _finish(_start(recipe_path, whole, recipe.train.workers))
    duration_s = time.monotonic() - started_s
    last_step = max(record["step"] for record in load_log(whole.log))
    rng = random.Random(seed)
    kill_after = sorted(rng.sample(range(last_step), k=min(num_kills, last_step)))
    kills = []
    for number, step in enumerate(kill_after):
        process = _start(recipe_path, broken, workers=number % 3)
        reached = _wait_for_step(process, broken, step)
        time.sleep(rng.uniform(0, duration_s / last_step))
        process.kill()
        process.communicate()
        if process.returncode != -signal.SIGKILL:
            raise TrainingError(f"The run ended before it could be killed after step {step}.")
        kills.append(reached)
        tell(f"killed with workers={number % 3} after step {reached} was logged")
    tell("training to the end")
    _finish(_start(recipe_path, broken, workers=recipe.train.workers))
    return Verification(kills, compare_runs(whole, broken))


def compare_runs(one: RunFolder, other: RunFolder) -> list[Comparison]:
    """Compare final training states, weights files and logs of two runs, times left out."""
    states = [_load_final_state(run) for run in (one, other)]
    comparisons = [
        _compare(name, *(compute_state_sha256(state["learner"][name]) for state in states))
        for name in states[0]["learner"]
    ]
    for key in ("step", "best_miou"):
        comparisons.append(_compare(key, *(str(state[key]) for state in states)))
    for name in ("best.safetensors", "last.safetensors"):
        comparisons.append(
            _compare(name, *(compute_file_sha256(run.path / name) for run in (one, other)))
        )
    return [*comparisons, _compare_logs(one, other)]


def _compare(name: str, one: str, other: str) -> Comparison:
    return Comparison(name, one, other, "" if one == other else "differs")


def _compare_logs(one: RunFolder, other: RunFolder) -> Comparison:
    logs = [
        [
            {key: value for key, value in record.items() if key not in VOLATILE}
            for record in load_log(run.log)
            if record["kind"] != "session"
        ]
        for run in (one, other)
    ]
    difference = ""
    if logs[0] != logs[1]:
        pairs = zip(*logs, strict=False)
        place = next((a for a, b in pairs if a != b), "one log is longer")
        difference = f"first difference at {place}"
    return Comparison("log", f"{len(logs[0])} lines", f"{len(logs[1])} lines", difference)


def _load_final_state(run: RunFolder) -> dict[str, Any]:
    newest = load_newest_checkpoint(run.checkpoints, warn=lambda message: None)
    assert newest is not None, "a finished run has a checkpoint"
    return newest[1]


def _start(recipe_path: Path, run: RunFolder, workers: int) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "atrous", "train", "--recipe", str(recipe_path)]
    command += ["--out", str(run.path), "--workers", str(workers)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def _finish(process: "subprocess.Popen[str]") -> None:
    output, _ = process.communicate()
    if process.returncode != 0:
        raise TrainingError(f"The run failed by itself: {output.strip()[-2000:]}")


def _wait_for_step(process: "subprocess.Popen[str]", run: RunFolder, step: int) -> int:
    """Wait until a session has logged more than `step` steps; return the last step logged."""
    while process.poll() is None:
        records = load_log(run.log) if run.log.exists() else []
        steps = [record["step"] for record in records if record["kind"] == "train"]
        if steps and steps[-1] > step:
            return steps[-1]
        time.sleep(0.02)
    output, _ = process.communicate()
    raise TrainingError(f"The run ended by itself: {output.strip()[-2000:]}")
