"""What a run folder holds, read for a report: whatever is there, with errors for what is broken."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from atrous.errors import ConfigError
from atrous.figures import group_records
from atrous.figures.panels import Records
from atrous.models.zoo import find_variant
from atrous.parsing import explain_validation, parse_json
from atrous.recipe import Recipe, load_recipe
from atrous.report.run_values import PlanValues, ScoreValues
from atrous.run import RunFolder, load_log


@dataclass(frozen=True)
class LoadedRun:
    """A run folder's files as plain values.

    Attributes:
        folder: Where they are.
        name: Name of the folder.
        recipe: What was asked for.
        recipe_text: The recipe as it stands in the file.
        plan: What followed from it, or {}.
        records: The log by kind.
        scores: The evaluation, or {} if there is none yet.
    """

    folder: RunFolder
    name: str
    recipe: Recipe
    recipe_text: str
    plan: dict[str, Any]
    records: Records
    scores: dict[str, Any]

    @property
    def is_finished(self) -> bool:
        """Whether training came to its end."""
        return any(record.get("reason") == "finished" for record in self.records["session"])

    @property
    def step(self) -> int:
        """The last step that was logged."""
        return max((record["step"] for record in self.records["train"]), default=0)

    @property
    def starts(self) -> list[dict[str, Any]]:
        """The records of the sessions' starts, with version and machine."""
        return [record for record in self.records["session"] if record.get("event") == "start"]

    @property
    def training_s(self) -> float:
        """Seconds spent on steps and validations."""
        steps = sum(record.get("step_s") or 0 for record in self.records["train"])
        return steps + sum(record.get("val_s") or 0 for record in self.records["val"])

    @property
    def temperature(self) -> float:
        """What the evaluation divided logits by before it took confidence from them."""
        return (self.scores.get("confidence") or {}).get("temperature") or 1.0

    @property
    def counts_path(self) -> Path:
        """Counts per picture of the evaluation."""
        return self.folder.evaluation / f"{self.scores['split']}-counts.jsonl"

    @property
    def began(self) -> str:
        """When the first session started, to the minute; '' if not said."""
        return _format_time(self.starts[0].get("time")) if self.starts else ""


def load_run(path: Path, *, split: str | None = None) -> LoadedRun:
    """Read a run folder.

    Args:
        path: A run folder, as `atrous train --out` makes it.
        split: Whose evaluation to take; unset, the run's validation split, or the only one.

    Raises:
        ConfigError: It is no run folder, a file of it is damaged, or there is nothing to report:
            training is over and nothing was evaluated.
    """
    folder = RunFolder(path)
    if not folder.recipe.is_file():
        what = "holds no recipe.toml" if path.is_dir() else "is no folder"
        raise ConfigError(
            f"{path} is no run: it {what}. Give a run folder, as `atrous train --out` makes it."
        )
    recipe = load_recipe(folder.recipe)
    run = LoadedRun(
        folder=folder,
        name=path.resolve().name,
        recipe=recipe,
        recipe_text=folder.recipe.read_text(encoding="utf-8").strip(),
        plan={},
        records=group_records(load_log(folder.log)) if folder.log.is_file() else group_records([]),
        scores={},
    )
    if folder.plan.is_file():
        run = replace(run, plan=_load_values(folder.plan, PlanValues, "Bring it back as it was."))
    scores_path = _find_scores(run, split)
    if scores_path is not None:
        remedy = f"Evaluate again: `atrous evaluate {path}`."
        run = replace(run, scores=_load_values(scores_path, ScoreValues, remedy))
    return run


def _find_scores(run: LoadedRun, split: str | None) -> Path | None:
    found = sorted(run.folder.evaluation.glob("*.json"))
    wanted = run.folder.evaluation / f"{split or run.recipe.data.val_split}.json"
    if wanted in found:
        return wanted
    path = run.folder.path
    if split is not None:
        raise ConfigError(
            f"The run {path} has not been evaluated on '{split}'. Do that first: "
            f"`atrous evaluate {path} --split {split}`."
        )
    if len(found) == 1:
        return found[0]
    if found:
        names = ", ".join(path.stem for path in found)
        raise ConfigError(f"The run {path} was evaluated on {names}: say which with --split.")
    if run.is_finished:
        raise ConfigError(
            f"The run {path} has not been evaluated, so there are no scores to report. Do that "
            f"first: `atrous evaluate {path}`."
        )
    return None


def _load_values(path: Path, kind: type[BaseModel], remedy: str) -> dict[str, Any]:
    try:
        values = parse_json(path.read_bytes())
        kind.model_validate(values)
    except ValidationError as error:
        raise ConfigError(
            f"{path} does not hold what was expected: {explain_validation(error)}. {remedy}"
        ) from None
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path} cannot be read as JSON: {error}. {remedy}") from None
    return dict(values)


def _format_time(text: str | None) -> str:
    try:
        return datetime.fromisoformat(text or "").strftime("%-d %B %Y, %H:%M")
    except ValueError:
        return text or ""


def find_output_stride(recipe: Recipe) -> int | None:
    """Return the output stride of training; None for a model that has none to choose."""
    offered = find_variant(recipe.model.name).options
    return recipe.model.output_stride if "output_stride" in offered else None


def list_once(values: Iterable[Any]) -> list[str]:
    """Return values as texts, each once, in the order of their first appearance, None left out."""
    return list(dict.fromkeys(str(value) for value in values if value is not None))
