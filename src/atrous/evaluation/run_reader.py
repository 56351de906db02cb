"""Run folders as plain values: recipe, plan, log and evaluation."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from atrous.engines import TTA
from atrous.errors import ConfigError, DataError
from atrous.evaluation.counts import CountArray
from atrous.evaluation.image_counts import ImageCounts, load_image_counts
from atrous.evaluation.metrics import compute_miou
from atrous.evaluation.run_values import ComparedValues, PlanValues, ScoreValues
from atrous.parsing import explain_validation, parse_json
from atrous.recipe import Recipe, load_recipe
from atrous.run import Records, RunFolder, group_records, load_log


@dataclass(frozen=True)
class LoadedRun:
    """The files of a run folder as plain values.

    A folder may have no stored recipe; the plan is {} without a `plan.json`, and the scores before
    the first evaluation.
    """

    folder: RunFolder
    name: str
    stored_recipe: Recipe | None
    plan: dict[str, Any]
    records: Records
    scores: dict[str, Any]

    @property
    def recipe(self) -> Recipe:
        """Recipe of the training; raises ConfigError if the folder holds none."""
        if self.stored_recipe is None:
            path = self.folder.path
            what = "holds no recipe.toml" if path.is_dir() else "is no folder"
            raise ConfigError(
                f"{path} is not a run: it {what}. Give a run folder, as `atrous train --out` "
                "writes it."
            )
        return self.stored_recipe

    @property
    def is_finished(self) -> bool:
        """Whether training has finished."""
        return any(record.get("reason") == "finished" for record in self.records["session"])

    @property
    def step(self) -> int:
        """Last logged step."""
        return max((record["step"] for record in self.records["train"]), default=0)

    @property
    def starts(self) -> list[dict[str, Any]]:
        """Records of the starts of sessions, with version and machine."""
        return [record for record in self.records["session"] if record.get("event") == "start"]

    @property
    def started(self) -> str:
        """Start of the first session, to the minute; '' if unknown."""
        text = (self.starts[0].get("time") if self.starts else None) or ""
        try:
            return datetime.fromisoformat(text).strftime("%-d %B %Y, %H:%M")
        except ValueError:
            return text

    def load_image_counts(self) -> ImageCounts:
        """Load the counts per image of the evaluation; raises DataError."""
        path = self.folder.evaluation / f"{self.scores['split']}-counts.jsonl"
        return load_image_counts(path, len(self.scores["per_class"]))


@dataclass(frozen=True)
class EvaluatedRun(LoadedRun):
    """A run with the counts of one evaluation: images sorted by name, classes in their order."""

    images: ImageCounts
    class_names: tuple[str, ...]
    tta: TTA

    @property
    def total(self) -> CountArray:
        """Counts of the whole split, int64 (classes, 3)."""
        return self.images.counts.sum(axis=0)

    @property
    def miou(self) -> float:
        """The mIoU of the whole split."""
        return float(compute_miou(self.total))

    @property
    def class_images(self) -> CountArray:
        """Number of masks with each class, int64 (classes,)."""
        return self.images.counts[..., [0, 2]].any(axis=-1).sum(axis=0)

    @property
    def num_labelled_images(self) -> int:
        """Number of images with a labelled pixel."""
        return int(self.images.counts[..., [0, 2]].any(axis=(1, 2)).sum())


def load_run(path: Path, *, split: str | None = None) -> LoadedRun:
    """Load a run folder, with its evaluation on `split`.

    By default, this is the run's validation split, or the only evaluated one.

    Raises:
        ConfigError: It is no run folder, or a finished run that was not evaluated (on `split`).
        DataError: A file is damaged.
    """
    run = _load_folder(path, path.resolve().name)
    found = sorted(run.folder.evaluation.glob("*.json"))
    wanted = run.folder.evaluation / f"{split or run.recipe.data.val_split}.json"
    if wanted not in found and split is None:
        if len(found) > 1:
            names = ", ".join(path.stem for path in found)
            raise ConfigError(f"The run {path} was evaluated on {names}: choose one with --split.")
        if not found and not run.is_finished:
            return run
        wanted = found[0] if found else wanted
    return replace(run, scores=_load_scores(wanted, ScoreValues))


def load_evaluated_runs(folders: Sequence[Path], split: str | None = None) -> list[EvaluatedRun]:
    """Load the evaluations of runs on one split; by default, the first run's validation split.

    Raises ConfigError for a missing folder or evaluation, DataError for damaged files.
    """
    for folder in folders:
        if folder.is_file():
            raise ConfigError(
                f"{folder} is a file, but compare takes run folders, which keep the counts per "
                "image of an evaluation. Give the folder that `atrous train --out` wrote."
            )
        if not folder.is_dir():
            raise ConfigError(f"There is no run folder {folder}.")
    names = _name_folders(folders)
    runs = [_load_folder(folder, name) for folder, name in zip(folders, names, strict=True)]
    if split is None:
        recipe = runs[0].stored_recipe
        split = recipe.data.val_split if recipe else "val"
    return [_load_evaluation(run, split) for run in runs]


def _load_folder(path: Path, name: str) -> LoadedRun:
    folder = RunFolder(path)
    return LoadedRun(
        folder=folder,
        name=name,
        stored_recipe=load_recipe(folder.recipe) if folder.recipe.is_file() else None,
        plan=load_plan(folder.plan),
        records=group_records(load_log(folder.log) if folder.log.is_file() else []),
        scores={},
    )


def load_plan(path: Path) -> dict[str, Any]:
    """Return the content of a plan.json, or {} if there is none; raises DataError."""
    return _load_values(path, PlanValues, "Restore the file.") if path.is_file() else {}


def _load_evaluation(run: LoadedRun, split: str) -> EvaluatedRun:
    path = run.folder.evaluation / f"{split}.json"
    scores = _load_scores(path, ComparedValues)
    run = replace(run, scores={**scores, "split": split})
    images = run.load_image_counts()
    order = sorted(range(len(images.names)), key=images.names.__getitem__)
    images = ImageCounts(tuple(sorted(images.names)), images.counts[order])
    class_names = tuple(row["name"] for row in scores["per_class"])
    tta = TTA.from_json(scores["tta"])
    evaluated = EvaluatedRun(**vars(run), images=images, class_names=class_names, tta=tta)
    if not evaluated.num_labelled_images:
        raise DataError(
            f"There is nothing to compare in {path}: no mask of the split has a labelled pixel."
        )
    if not abs(evaluated.miou - scores["miou"]) < 1e-9:
        raise DataError(
            f"The scores in {path} and the counts per image beside it come from two different "
            f"evaluations. {_evaluate_again(path)}"
        )
    return evaluated


def _load_scores(path: Path, kind: type[BaseModel]) -> dict[str, Any]:
    folder, split = path.parent.parent, path.stem
    if not path.is_file():
        others = sorted(file.stem for file in path.parent.glob("*.json"))
        found = f" (only on {', '.join(others)})" if others else ""
        raise ConfigError(
            f"The run {folder} has not been evaluated on '{split}'{found}. Run "
            f"`atrous evaluate {folder} --split {split}` first."
        )
    return _load_values(path, kind, _evaluate_again(path))


def _evaluate_again(path: Path) -> str:
    return f"Evaluate again: `atrous evaluate {path.parent.parent} --split {path.stem}`."


def _load_values(path: Path, kind: type[BaseModel], remedy: str) -> dict[str, Any]:
    """Load the JSON object of a file, whose values must be those of a kind."""
    try:
        values = parse_json(path.read_text(encoding="utf-8"))
        if not isinstance(values, dict):
            raise ValueError("it is a list or a single value")
        kind.model_validate(values)
    except ValidationError as error:
        reason = f"does not hold what was expected: {explain_validation(error)}"
    except (OSError, ValueError) as error:
        reason = f"cannot be read as a JSON object: {error}"
    else:
        return values
    raise DataError(f"{path} {reason}. {remedy}")


def _name_folders(folders: Sequence[Path]) -> list[str]:
    """Return short names: the folder's own, its path if two folders share it, numbered if equal."""
    short = [folder.resolve().name for folder in folders]
    names: list[str] = []
    for folder, name in zip(folders, short, strict=True):
        homes = {other.resolve() for other, own in zip(folders, short, strict=True) if own == name}
        name = name if len(homes) == 1 else str(folder)
        num_before = sum(before == name or before.startswith(f"{name} (") for before in names)
        names.append(f"{name} ({num_before + 1})" if num_before else name)
    return names
