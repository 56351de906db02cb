"""Verify that a recipe resumes exactly on this machine: kill, resume, compare."""

import json
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from atrous.errors import ConfigError, TrainingError
from atrous.files import compute_file_sha256, write_atomically
from atrous.recipe import Recipe, format_recipe
from atrous.run import RunFolder, group_records, load_log
from atrous.training.checkpoint import compute_state_sha256, load_newest_checkpoint
from atrous.training.log import Listener, note

VOLATILE = frozenset({"step_s", "val_s"})
"""Logged durations, which differ between equal runs."""


@dataclass(frozen=True)
class ResumeCheck:
    """One item compared between the two runs; `difference` is empty if they are equal."""

    name: str
    uninterrupted: str
    interrupted: str
    difference: str


class Kill(NamedTuple):
    """One `kill -9`: the step its session started from, and its last logged step."""

    resumed_from: int
    killed_after: int


@dataclass(frozen=True)
class Verification:
    """Result of `verify_resume`."""

    kills: list[Kill]
    checks: list[ResumeCheck]

    @property
    def is_exact(self) -> bool:
        """Whether the two runs are equal."""
        return not any(check.difference for check in self.checks)


def verify_resume(
    recipe: Recipe,
    folder: Path,
    *,
    num_kills: int = 3,
    seed: int = 0,
    listener: Listener = lambda event: None,
) -> Verification:
    """Train a recipe twice, the second time with kills, and compare the two runs.

    Each session of the second run is killed with `kill -9` after a random number of steps, in the
    middle of a step, and the next one has another number of workers. The second run saves more
    checkpoints, which changes no number.

    Args:
        num_kills: Number of kills of the second run; each needs at least 4 steps.
        seed: Seed of the moments of the kills.
        listener: Called with an event of kind `note` and its `message` at each stage.

    Raises:
        ConfigError: The folder is in use, or the run is too short for so many kills.
        TrainingError: A run failed; the message contains its output.
    """
    whole, broken = RunFolder(folder / "uninterrupted"), RunFolder(folder / "interrupted")
    if whole.path.exists() or broken.path.exists():
        raise ConfigError(f"{folder} already holds such runs; give another folder.")
    folder.mkdir(parents=True, exist_ok=True)
    recipe_path = folder / "recipe.toml"
    write_atomically(recipe_path, lambda file: file.write(format_recipe(recipe).encode()))

    note(listener, "Training without interruption …")
    _finish(recipe_path, whole)
    steps = group_records(load_log(whole.log))["train"]
    every = len(steps) // (num_kills + 1)
    if every < 4:
        raise ConfigError(f"{len(steps)} steps are too few for {num_kills} kills; give more.")
    # Both runs share one plan, also if its steps were derived from clock time.
    broken.path.mkdir()
    for path in (whole.recipe, whole.plan):
        shutil.copy(path, broken.path)
    step_s = sum(record["step_s"] for record in steps) / len(steps)
    rng, kills = random.Random(seed), list[Kill]()
    save = ("--set", f"train.save_every={max(1, every // 3)}it")
    for number in range(num_kills):
        with _start(recipe_path, broken, "--workers", str(number % 3), *save) as process:
            resumed_from = _wait_for_steps(process, broken, number, rng.randint(every // 2, every))
            time.sleep(rng.uniform(0, step_s))
        if process.returncode != -signal.SIGKILL:
            raise TrainingError("A session ended before it could be killed.")
        last_step = max(record["step"] for record in group_records(load_log(broken.log))["train"])
        kills.append(Kill(resumed_from, last_step))
        note(listener, f"Killed: resumed from step {resumed_from}, logged step {last_step}.")
    note(listener, "Training to the end …")
    _finish(recipe_path, broken)
    return Verification(kills, compare_runs(whole, broken))


def compare_runs(one: RunFolder, other: RunFolder) -> list[ResumeCheck]:
    """Compare final training states, weights files and logs of two runs, except durations."""
    states = []
    for run in (one, other):
        newest = load_newest_checkpoint(run.checkpoints, warn=lambda message: None)
        assert newest is not None, "a finished run has a checkpoint"
        states.append(newest[1])
    values = {
        name: [compute_state_sha256(state["learner"][name]) for state in states]
        for name in states[0]["learner"]
    }
    for key in ("step", "best_miou"):
        values[key] = [str(state[key]) for state in states]
    for name in ("best.safetensors", "last.safetensors"):
        values[name] = [compute_file_sha256(run.path / name) for run in (one, other)]
    checks = [
        ResumeCheck(name, first, second, "" if first == second else "differs")
        for name, (first, second) in values.items()
    ]
    return [*checks, _compare_logs(one, other)]


def _compare_logs(one: RunFolder, other: RunFolder) -> ResumeCheck:
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
    return ResumeCheck("log", f"{len(logs[0])} lines", f"{len(logs[1])} lines", difference)


@contextmanager
def _start(recipe_path: Path, run: RunFolder, *options: str) -> Iterator["subprocess.Popen[str]"]:
    """Start a session, and kill it at the end of the block, however that comes."""
    command = [sys.executable, "-m", "atrous", "train", "--recipe", str(recipe_path)]
    command += ["--out", str(run.path), *options]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


def _finish(recipe_path: Path, run: RunFolder) -> None:
    with _start(recipe_path, run) as process:
        output, _ = process.communicate()
    if process.returncode != 0:
        raise TrainingError(f"The run failed: {output.strip()[-2000:]}")


def _wait_for_steps(
    process: "subprocess.Popen[str]", run: RunFolder, num_sessions: int, num_steps: int
) -> int:
    """Wait until the session after `num_sessions` logs `num_steps` steps; return its first step."""
    while process.poll() is None:
        log = load_log(run.log) if run.log.exists() else []
        starts = [
            place
            for place, record in enumerate(log)
            if record["kind"] == "session" and record["event"] == "start"
        ]
        if len(starts) > num_sessions:
            start, *records = log[starts[-1] :]
            if sum(record["kind"] == "train" for record in records) >= num_steps:
                return int(start["step"])
        time.sleep(0.02)
    output, _ = process.communicate()
    raise TrainingError(f"The run ended before it could be killed: {output.strip()[-2000:]}")
