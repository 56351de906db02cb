"""Proof that a recipe resumes exactly on this machine: kill it, go on, compare everything."""

import json
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from atrous.errors import ConfigError, TrainingError
from atrous.files import compute_file_sha256, write_atomically
from atrous.recipe import Recipe, format_recipe
from atrous.run import RunFolder, load_log
from atrous.training.checkpoint import (
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
class Kill:
    """One `kill -9`: the step its session went on from, and the last step that it logged."""

    resumed_from: int
    killed_after: int
    workers: int


@dataclass(frozen=True)
class Verification:
    """What came out of the two runs: where the second was killed, and what was compared."""

    kills: list[Kill]
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

    Each kill is a `kill -9` of the process, some random steps and part of a step after the session
    went on; each session has another number of workers. The second run saves its state more often
    (which changes no number), so that its sessions have something to go on from.

    Args:
        recipe: What to train; a short duration will do.
        folder: Where the two run folders are made.
        num_kills: How often the second run is killed; it takes at least 4 steps per kill.
        seed: Of the moments.
        tell: Called with a line on what is being done.

    Raises:
        ConfigError: The folder is in use, or the run is too short for so many kills.
        TrainingError: A run failed by itself; the message holds what it printed.
    """
    whole, broken = RunFolder(folder / "uninterrupted"), RunFolder(folder / "interrupted")
    if whole.path.exists() or broken.path.exists():
        raise ConfigError(f"{folder} already holds such runs; give another folder.")
    folder.mkdir(parents=True, exist_ok=True)
    recipe_path = folder / "recipe.toml"
    write_atomically(recipe_path, lambda file: file.write(format_recipe(recipe).encode()))
    tell("training without interruption")
    _finish(recipe_path, whole, workers=recipe.train.workers)
    steps = [record for record in load_log(whole.log) if record["kind"] == "train"]
    every = len(steps) // (num_kills + 1)
    if every < 4:
        raise ConfigError(f"{len(steps)} steps are too few for {num_kills} kills; give more.")
    # Both run by the same plan, also where clock time was turned into steps.
    broken.path.mkdir()
    for path in (whole.recipe, whole.plan):
        shutil.copy(path, broken.path)
    step_s = sum(record["step_s"] for record in steps) / len(steps)
    rng, kills = random.Random(seed), list[Kill]()
    save = f"train.save_every={max(1, every // 3)}it"
    for number in range(num_kills):
        with _start(recipe_path, broken, workers=number % 3, override=save) as process:
            resumed_from = _wait_for_steps(process, broken, number, rng.randint(every // 2, every))
            time.sleep(rng.uniform(0, step_s))
        if process.returncode != -signal.SIGKILL:
            raise TrainingError("A session ended by itself before it could be killed.")
        kills.append(Kill(resumed_from, _find_last_step(broken), number % 3))
        tell(f"killed: went on from step {resumed_from}, logged step {kills[-1].killed_after}")
    tell("training to the end")
    _finish(recipe_path, broken, workers=recipe.train.workers)
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
            json.dumps({key: value for key, value in record.items() if key not in VOLATILE})
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


@contextmanager
def _start(
    recipe_path: Path, run: RunFolder, *, workers: int, override: str | None = None
) -> Iterator["subprocess.Popen[str]"]:
    """Start a session, and kill it at the end of the block, however that comes."""
    command = [sys.executable, "-m", "atrous", "train", "--recipe", str(recipe_path)]
    command += ["--out", str(run.path), "--workers", str(workers)]
    command += ["--set", override] if override else []
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


def _finish(recipe_path: Path, run: RunFolder, *, workers: int) -> None:
    with _start(recipe_path, run, workers=workers) as process:
        output, _ = process.communicate()
    if process.returncode != 0:
        raise TrainingError(f"The run failed by itself: {output.strip()[-2000:]}")


def _wait_for_steps(
    process: "subprocess.Popen[str]", run: RunFolder, num_sessions: int, num_steps: int
) -> int:
    """Wait until the session after `num_sessions` has logged so many steps; return its first."""
    while process.poll() is None:
        log = load_log(run.log) if run.log.exists() else []
        starts = [
            (place, record["step"])
            for place, record in enumerate(log)
            if record["kind"] == "session" and record["event"] == "start"
        ]
        if len(starts) > num_sessions:
            place, step = starts[-1]
            if sum(record["kind"] == "train" for record in log[place:]) >= num_steps:
                return step
        time.sleep(0.02)
    output, _ = process.communicate()
    raise TrainingError(f"The run ended by itself: {output.strip()[-2000:]}")


def _find_last_step(run: RunFolder) -> int:
    return max(record["step"] for record in load_log(run.log) if record["kind"] == "train")
