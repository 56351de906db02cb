"""Training the runs of a study, each in its own process, with resume."""

import os
import subprocess
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from atrous.errors import ConfigError
from atrous.files import write_atomically
from atrous.recipe import Recipe, compute_changed_keys, format_recipe, load_recipe
from atrous.run import RunFolder
from atrous.study.definition import Study, StudyRun
from atrous.timing import count_cores
from atrous.training.log import Listener, note


@dataclass(frozen=True)
class RunOutcome:
    """Result of training one run of a study with one seed; `error` is '' if it finished."""

    run: StudyRun
    seed: int
    folder: Path
    error: str


_Task = tuple[StudyRun, int, RunFolder, Recipe]


def run_study(
    study: Study,
    out: Path,
    *,
    overrides: Mapping[str, Any],
    overrides_by_run: Mapping[str, Mapping[str, Any]],
    num_seeds: int = 1,
    jobs: int = 1,
    listener: Listener = lambda event: None,
) -> list[RunOutcome]:
    """Train the unfinished runs of a study.

    Each is a normal run folder, `OUT/NAME-SEED`, trained in its own process with the output in
    `OUT/NAME-SEED.txt`. Interrupted runs are resumed; a failed run does not stop the others. The
    speeds that durations in clock time need are measured one after another before the first
    training, so that a machine that slows down later treats all runs alike.

    Args:
        overrides: `section.key` and values for all runs, such as `data.root`.
        overrides_by_run: The same for single runs, by name.
        num_seeds: Number of seeds of each run: 0, 1, ….
        jobs: Number of runs trained at the same time; they share the processor cores.
        listener: Called with events of kind `note` and a `message`.

    Returns:
        The results, in the order of the study, seeds of a run together.

    Raises:
        ConfigError: A recipe is invalid, or a run in `out` has another recipe.
    """
    unknown = set(overrides_by_run) - {run.name for run in study.runs}
    if unknown:
        names = ", ".join(run.name for run in study.runs)
        raise ConfigError(f"The study has no run '{sorted(unknown)[0]}'. Its runs: {names}.")
    tasks: list[_Task] = []
    for run in study.runs:
        own = run.model_copy(update={"set": {**run.set, **overrides_by_run.get(run.name, {})}})
        for seed in range(num_seeds):
            folder = RunFolder(out / f"{run.name}-{seed}")
            recipe = study.build_recipe(own, overrides, seed)
            _check_recipe(folder, recipe)
            tasks.append((run, seed, folder, recipe))
    out.mkdir(parents=True, exist_ok=True)

    def measure(task: _Task) -> None:
        _, _, folder, recipe = task
        if recipe.train.needs_speed and not folder.plan.is_file():
            note(listener, f"{folder.path.name}: measuring the speed")
            _train(folder, recipe, jobs, "--stop-after", "0it")

    def train(task: _Task) -> RunOutcome:
        run, seed, folder, recipe = task
        error = ""
        if folder.last.is_file():
            note(listener, f"{folder.path.name}: already finished")
        else:
            note(listener, f"{folder.path.name}: training")
            error = _train(folder, recipe, jobs)
            note(listener, f"{folder.path.name}: {error or 'finished'}")
        return RunOutcome(run, seed, folder.path, error)

    with ThreadPoolExecutor(jobs) as pool:
        list(pool.map(measure, tasks))
        return list(pool.map(train, tasks))


def _check_recipe(folder: RunFolder, recipe: Recipe) -> None:
    if not folder.recipe.is_file():
        return
    stored = load_recipe(folder.recipe)
    if recipe.train.precision == "auto":  # the stored recipe has the resolved precision
        train = recipe.train.model_copy(update={"precision": stored.train.precision})
        recipe = recipe.model_copy(update={"train": train})
    if changed := compute_changed_keys(stored, recipe):
        raise ConfigError(
            f"{folder.path} was trained with another recipe; changed: {'; '.join(changed)}. Give "
            "another --out, or remove this folder."
        )


def _train(folder: RunFolder, recipe: Recipe, jobs: int, *options: str) -> str:
    """Train in a new process and return why it failed, or ''."""
    recipe_path = folder.path.with_suffix(".toml")
    write_atomically(recipe_path, lambda file: file.write(format_recipe(recipe).encode()))
    threads = max(1, count_cores() // jobs)
    output_path = folder.path.with_suffix(".txt")
    command = [sys.executable, "-m", "atrous", "train"]
    with open(output_path, "ab") as output:
        process = subprocess.run(
            [*command, "--recipe", str(recipe_path), "--out", str(folder.path), *options],
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, "OMP_NUM_THREADS": str(threads)},
            check=False,
        )
    if folder.last.is_file():
        return ""
    if process.returncode == 0:
        return "stopped; run the same command again to resume"
    return f"failed with exit code {process.returncode}; see {output_path}"
