"""Evaluations as run folders keep them, and whether they can be held against each other."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from atrous.engines import Views
from atrous.errors import ConfigError, DataError
from atrous.evaluation.counts import CountArray
from atrous.evaluation.image_counts import ImageCounts, load_image_counts
from atrous.evaluation.metrics import compute_miou
from atrous.recipe import Recipe, load_recipe
from atrous.run import RunFolder


@dataclass(frozen=True)
class EvaluatedRun:
    """What `evaluate` left in a run folder for one split, and what the run was.

    Attributes:
        name: Short name to show: the folder's own, or its path where two folders have the same.
        folder: The run folder.
        split: Which split of its data.
        class_names: In the order of the counts.
        images: Counts of each picture, in the order of their names.
        views: Scales, mirror images and windows of the evaluation.
        data: Folder of the data set, as the evaluation was given it.
        data_fingerprint: Changes when the files of the split do.
        convention: How the counts are scored, in words.
        model: Variant.
        output_stride: That of the evaluation; None for a model that has none to choose.
        precision: That of the evaluation.
        recipe: What was asked for in training; None in a folder without a recipe.
        total_steps: Steps of the whole training; None in a folder without a plan.
    """

    name: str
    folder: Path
    split: str
    class_names: tuple[str, ...]
    images: ImageCounts
    views: Views
    data: str
    data_fingerprint: str
    convention: str
    model: str
    output_stride: int | None
    precision: str
    recipe: Recipe | None
    total_steps: int | None

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
        """In how many masks each class is, int64 (classes,)."""
        return self.images.counts[..., [0, 2]].any(axis=-1).sum(axis=0)

    @property
    def num_labelled_images(self) -> int:
        """Pictures with a labelled pixel."""
        return int(self.images.counts[..., [0, 2]].any(axis=(1, 2)).sum())


def load_evaluated_runs(folders: Sequence[Path], split: str | None = None) -> list[EvaluatedRun]:
    """Read the evaluations of some runs on one split.

    Args:
        folders: Run folders.
        split: Name of the split; unset, the first run's validation split, else `val`.

    Raises:
        ConfigError: A folder is none, or its run was not evaluated on the split.
        DataError: The files of an evaluation are damaged, or not of one evaluation.
    """
    for folder in folders:
        _check_folder(folder)
    if split is None:
        recipe = _load_recipe(folders[0])
        split = recipe.data.val_split if recipe else "val"
    names = _name_folders(folders)
    return [_load(folder, name, split) for folder, name in zip(folders, names, strict=True)]


def check_comparable(runs: Sequence[EvaluatedRun]) -> None:
    """Refuse runs whose scores do not mean the same.

    Raises:
        DataError: Pictures, masks, classes, views or the convention differ; the message says which
            and what to do.
    """
    first = runs[0]
    for run in runs[1:]:
        for what, describe, remedy in _MUST_AGREE:
            ours, theirs = describe(first), describe(run)
            if ours != theirs:
                raise DataError(
                    f"{first.name} and {run.name} cannot be compared: their {what} differ, "
                    f"{_show_difference(ours, theirs)}. {remedy}"
                )
        _check_masks(first, run)


_AGAIN = "Evaluate both alike with the same `atrous evaluate RUN --data DATA --split SPLIT`."
_MUST_AGREE: tuple[tuple[str, Callable[[EvaluatedRun], Any], str], ...] = (
    ("classes", lambda run: run.class_names, "Compare runs of one data set."),
    ("pictures", lambda run: run.images.names, _AGAIN),
    (
        "views",
        lambda run: run.views.describe(),
        "Evaluate both alike with the same --scales, --flip, --window and --samples.",
    ),
    (
        "data fingerprints",
        lambda run: run.data_fingerprint,
        "The files of the split changed between the two evaluations, or an older version of "
        f"atrous made one of them. {_AGAIN}",
    ),
    (
        "conventions",
        lambda run: run.convention,
        f"Another version of atrous made one of them. {_AGAIN}",
    ),
)


def _show_difference(ours: Any, theirs: Any) -> str:
    if isinstance(ours, str):
        return f"«{_shorten(ours)}» against «{_shorten(theirs)}»"
    for index, (one, other) in enumerate(zip(ours, theirs, strict=False)):
        if one != other:
            return f"from number {index} on: '{one}' against '{other}'"
    return f"{len(ours)} against {len(theirs)}"


def _shorten(text: str) -> str:
    return text if len(text) <= 80 else text[:77] + "…"


def _check_masks(first: EvaluatedRun, run: EvaluatedRun) -> None:
    """Hold the labelled pixels per picture and class against each other: the same masks."""
    ours, theirs = (one.images.counts[..., [0, 2]].sum(axis=-1) for one in (first, run))
    if np.array_equal(ours, theirs):
        return
    image, index = np.argwhere(ours != theirs)[0].tolist()
    raise DataError(
        f"{first.name} and {run.name} cannot be compared: the mask of picture "
        f"'{first.images.names[image]}' had {ours[image, index]} pixels of "
        f"'{first.class_names[index]}' for the one and {theirs[image, index]} for the other. The "
        f"masks, or the value that counts as void, changed in between. {_AGAIN}"
    )


def _check_folder(folder: Path) -> None:
    if folder.is_file():
        raise ConfigError(
            f"{folder} is a file, but comparing takes run folders: an evaluation's counts per "
            "picture are kept there. Give the folder that `atrous train --out` made."
        )
    if not folder.is_dir():
        raise ConfigError(f"There is no run folder {folder}.")


def _load_recipe(folder: Path) -> Recipe | None:
    path = RunFolder(folder).recipe
    return load_recipe(path) if path.is_file() else None


def _name_folders(folders: Sequence[Path]) -> list[str]:
    short = [folder.resolve().name for folder in folders]
    names: list[str] = []
    for folder, name in zip(folders, short, strict=True):
        homes = {other.resolve() for other, own in zip(folders, short, strict=True) if own == name}
        name = name if len(homes) == 1 else str(folder)
        num_before = sum(before == name or before.startswith(f"{name} (") for before in names)
        names.append(f"{name} ({num_before + 1})" if num_before else name)
    return names


def _load(folder: Path, name: str, split: str) -> EvaluatedRun:
    home = RunFolder(folder).evaluation
    path = home / f"{split}.json"
    if not path.is_file():
        others = sorted(file.stem for file in home.glob("*.json")) if home.is_dir() else []
        found = f" (only on {', '.join(others)})" if others else ""
        raise ConfigError(
            f"The run {folder} has not been evaluated on '{split}'{found}. First do "
            f"`atrous evaluate {folder} --split {split}`."
        )
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
        class_names = tuple(str(row["name"]) for row in report["per_class"])
        images = load_image_counts(home / f"{split}-counts.jsonl", len(class_names))
        order = sorted(range(len(images.names)), key=images.names.__getitem__)
        run = EvaluatedRun(
            name=name,
            folder=folder,
            split=split,
            class_names=class_names,
            images=ImageCounts(tuple(sorted(images.names)), images.counts[order]),
            views=Views.from_json(report["views"]),
            **{key: report[key] for key in _FACTS},
            recipe=_load_recipe(folder),
            total_steps=_load_total_steps(folder),
        )
        miou = float(report["miou"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"The evaluation {path} cannot be read ({type(error).__name__}: {error}). Evaluate "
            f"again: `atrous evaluate {folder} --split {split}`."
        ) from error
    _check_whole(run, path, miou)
    return run


_FACTS = ("data", "data_fingerprint", "convention", "model", "output_stride", "precision")


def _load_total_steps(folder: Path) -> int | None:
    path = RunFolder(folder).plan
    return json.loads(path.read_text(encoding="utf-8"))["total_steps"] if path.is_file() else None


def _check_whole(run: EvaluatedRun, path: Path, miou: float) -> None:
    """Refuse counts that are not those that the score beside them came from."""
    if not run.num_labelled_images:
        raise DataError(
            f"There is nothing to compare in {path}: no mask of the split has a labelled pixel."
        )
    if not abs(run.miou - miou) < 1e-9:
        raise DataError(
            f"The scores in {path} and the counts per picture beside it are of two different "
            f"evaluations. Evaluate again: `atrous evaluate {run.folder} --split {run.split}`."
        )
