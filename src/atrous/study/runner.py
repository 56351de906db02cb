"""Running a study: each run a training of its own process, resumable, failures kept apart."""

import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from atrous.errors import ConfigError
from atrous.files import write_atomically
from atrous.recipe import Recipe, compute_changed_keys, format_recipe, load_recipe
from atrous.run import RunFolder
from atrous.study.definition import Study, StudyRun


@dataclass(frozen=True)
class RunOutcome:
    """What became of one run of a study.

    Attributes:
        run: Its row of the study.
        seed: Its seed.
        folder: Its run folder.
        error: Why it failed; empty if it finished.
    """

    run: StudyRun
    seed: int
    folder: Path
    error: str


def run_study(
    study: Study,
    out: Path,
    *,
    overrides: Mapping[str, Any],
    overrides_by_run: Mapping[str, Mapping[str, Any]],
    num_seeds: int = 1,
    jobs: int = 1,
    tell: Callable[[str], object] = lambda message: None,
) -> list[RunOutcome]:
    """Train every run of a study that is not finished yet.

    Each is a normal run folder, `OUT/NAME-SEED`, trained by a process of its own whose output goes
    to `OUT/NAME-SEED.txt`; one that was interrupted goes on, one that fails does not stop the rest.

    Args:
        study: What to run.
        out: Folder of the study.
        overrides: `section.key` and values for all runs, such as `data.root`.
        overrides_by_run: The same for single runs, by their names.
        num_seeds: Each run is trained with seeds 0, 1, … of this number.
        jobs: Runs trained at the same time; they share the processor cores.
        tell: Called with a line on what happens.

    Returns:
        What became of each run, in the order of the study, seeds of a run together.

    Raises:
        ConfigError: A recipe cannot be used, or a finished run in `out` was made with another.
    """
    unknown = set(overrides_by_run) - {run.name for run in study.runs}
    if unknown:
        names = ", ".join(run.name for run in study.runs)
        raise ConfigError(f"The study has no run '{sorted(unknown)[0]}'. Its runs: {names}.")
    tasks = []
    for run in study.runs:
        own = run.model_copy(update={"set": {**run.set, **overrides_by_run.get(run.name, {})}})
        for seed in range(num_seeds):
            folder = RunFolder(out / f"{run.name}-{seed}")
            recipe = study.build_recipe(own, overrides, seed)
            _check_recipe(folder, recipe)
            tasks.append((run, seed, folder, recipe))
    out.mkdir(parents=True, exist_ok=True)

    def train(task: tuple[StudyRun, int, RunFolder, Recipe]) -> RunOutcome:
        run, seed, folder, recipe = task
        error = ""
        if folder.last.is_file():
            tell(f"{folder.path.name}: finished before")
        else:
            tell(f"{folder.path.name}: training")
            error = _train(folder, recipe, jobs)
            tell(f"{folder.path.name}: {error or 'finished'}")
        return RunOutcome(run, seed, folder.path, error)

    with ThreadPoolExecutor(jobs) as pool:
        return list(pool.map(train, tasks))


def _check_recipe(folder: RunFolder, recipe: Recipe) -> None:
    if not folder.recipe.is_file():
        return
    begun = load_recipe(folder.recipe)
    if recipe.train.precision == "auto":  # the run's own recipe says what it became
        train = recipe.train.model_copy(update={"precision": begun.train.precision})
        recipe = recipe.model_copy(update={"train": train})
    if changed := compute_changed_keys(begun, recipe):
        raise ConfigError(
            f"{folder.path} was made with another recipe; changed: {'; '.join(changed)}. A study "
            "compares like with like: give another --out, or remove that folder."
        )


def _train(folder: RunFolder, recipe: Recipe, jobs: int) -> str:
    """Train in a process of its own and return why it failed, or ''."""
    recipe_path = folder.path.with_suffix(".toml")
    write_atomically(recipe_path, lambda file: file.write(format_recipe(recipe).encode()))
    threads = max(1, (os.cpu_count() or 1) // jobs)
    output_path = folder.path.with_suffix(".txt")
    with open(output_path, "ab") as output:
        process = subprocess.run(
            [
                *(sys.executable, "-m", "atrous", "train"),
                *("--recipe", str(recipe_path), "--out", str(folder.path)),
            ],
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, "OMP_NUM_THREADS": str(threads)},
            check=False,
        )
    if folder.last.is_file():
        return ""
    if process.returncode == 0:
        return "stopped; start the same command again to go on"
    return f"failed with exit code {process.returncode}; see {output_path}"
