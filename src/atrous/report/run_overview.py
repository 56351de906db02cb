"""Overview of a run: status, conditions, main scores, caveats and confusions."""

import math
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from atrous.durations import format_seconds
from atrous.engines import TTA
from atrous.evaluation.run_reader import LoadedRun
from atrous.report.ledger import find_output_stride

_MAX_CONFUSIONS = 6


def describe_status(run: LoadedRun) -> str:
    """Describe the state of the training in a sentence."""
    total = run.plan.get("total_steps")
    of_total = f" of {total:,}" if total else ""
    if run.is_finished:
        return f"Training is finished: {run.step:,} steps."
    ends = [record for record in run.records["session"] if record.get("event") == "end"]
    if ends and len(ends) == len(run.starts):
        reason = ends[-1].get("reason")
        return f"Training stopped ({reason}) at step {run.step:,}{of_total}; it can be resumed."
    if not run.records["train"]:
        return "Training has not logged a step yet."
    return f"Training is running or was interrupted at step {run.step:,}{of_total}."


def list_facts(run: LoadedRun) -> list[tuple[str, str]]:
    """Return the conditions of a run, as labels with values."""
    recipe, plan = run.recipe, run.plan
    stride = find_output_stride(recipe)
    splits = {"train": recipe.data.train_split, "val": recipe.data.val_split}
    sizes, fingerprints = [], []
    for key, name in splits.items():
        if f"num_{key}" in plan:
            sizes.append(f"{plan[f'num_{key}']:,} in {name}")
        if f"{key}_fingerprint" in plan:
            fingerprints.append(f"{name} {plan[f'{key}_fingerprint'][:16]}…")
    sessions = f"{len(run.starts)} session" + "s" * (len(run.starts) != 1)
    training_s = sum(record.get("step_s") or 0 for record in run.records["train"])
    training_s += sum(record.get("val_s") or 0 for record in run.records["val"])
    facts = [
        ("Model", recipe.model.name + ("" if stride is None else f", output stride {stride}")),
        ("Data", Path(recipe.data.root).name),
        ("Images", ", ".join(sizes)),
        ("Data fingerprint", ", ".join(fingerprints)),
        ("Steps", _describe_steps(run)),
        ("Time", f"{format_seconds(training_s)} of steps and validations in {sessions}"),
        ("Started", run.started),
        ("Machine", "; ".join(_list_machines(run))),
        ("Code", _list_versions(run)),
        ("Evaluation", _describe_evaluation(run)),
    ]
    return [(label, value) for label, value in facts if value]


def list_headline(run: LoadedRun) -> list[tuple[str, str]]:
    """Return the main scores, as labels with values."""
    scores = run.scores
    if not scores:
        best = max((record["miou"] for record in run.records["val"]), default=None)
        return [] if best is None else [("best validation mIoU so far", f"{best:.3f}")]
    headline = {
        "mIoU": scores["miou"],
        "pixel accuracy": scores["pixel_accuracy"],
        "mean class accuracy": scores.get("mean_class_accuracy"),
        "calibration error": (scores.get("confidence") or {}).get("ece"),
    }
    shown = [(label, f"{value:.3f}") for label, value in headline.items() if value is not None]
    return [*shown, ("images", f"{scores['num_images']:,}")]


def list_notes(run: LoadedRun) -> list[str]:
    """Return caveats about the scores."""
    scores, notes = run.scores, []
    split, fingerprint = scores.get("split"), scores.get("data_fingerprint")
    if split == run.recipe.data.val_split:
        then = run.plan.get("val_fingerprint")
        if then and fingerprint and then != fingerprint:
            notes.append(
                "The fingerprint of the evaluated files is not that of the files validated in "
                "training: the files, or the method of the fingerprint, changed in between."
            )
    if split == run.recipe.data.train_split:
        notes.append("These scores are on the training images.")
    if any(not _is_finite(record.get("loss")) for record in run.records["train"]):
        notes.append("The training loss was not finite in some steps; its curve has gaps there.")
    calibration = (scores.get("training") or {}).get("calibration") or {}
    if fingerprint and calibration.get("data_fingerprint") == fingerprint:
        notes.append(
            "The temperature was fitted on this split, so the calibration error is too low."
        )
    if scores.get("absent"):
        names = ", ".join(scores["absent"])
        notes.append(f"Classes in no mask of this split, left out of every mean: {names}.")
    return notes


def sort_classes(scores: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the scores of the classes, the best IoU first; classes in no mask are the last."""
    return sorted(
        scores.get("per_class", []), key=lambda row: 1 if row["iou"] is None else -row["iou"]
    )


def list_confusions(scores: dict[str, Any]) -> list[tuple[str, str, float]]:
    """Return true class, predicted class and share of the largest confusions, largest first."""
    shares = compute_shares(scores)
    if shares is None:
        return []
    names = [row["name"] for row in scores["per_class"]]
    np.fill_diagonal(shares, 0)
    places = np.argsort(-shares, axis=None, kind="stable")[:_MAX_CONFUSIONS]
    pairs = (np.unravel_index(place, shares.shape) for place in places)
    return [
        (names[row], names[column], float(shares[row, column]))
        for row, column in pairs
        if shares[row, column] >= 0.01
    ]


def compute_shares(scores: dict[str, Any]) -> Any:
    """Return the confusion matrix as shares of the true classes; None if it was not kept."""
    if not scores.get("confusion"):
        return None
    counts = np.asarray(scores["confusion"], dtype=np.float64)
    return counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)


def _describe_steps(run: LoadedRun) -> str:
    total, per_epoch = run.plan.get("total_steps"), run.plan.get("steps_per_epoch")
    of_total = f" of {total:,}" if total else ""
    batch_size = run.recipe.train.batch_size * run.recipe.train.accumulate
    epochs = f"; {run.step / per_epoch:.1f} epochs" if per_epoch else ""
    return f"{run.step:,}{of_total} of {batch_size} images{epochs}"


def _describe_evaluation(run: LoadedRun) -> str:
    scores = run.scores
    if not scores:
        return ""
    step, get = (scores.get("training") or {}).get("step"), scores.get
    parts = (
        f"{scores['num_images']:,} images of {scores['split']}",
        "" if step is None else f"weights of step {step:,}",
        get("output_stride") and f"output stride {scores['output_stride']}",
        get("tta") and TTA.from_json(scores["tta"]).describe(),
        {"32": "float32", "bf16": "bfloat16"}.get(get("precision", "")),
        get("device") and f"on {scores['device']}",
        get("seconds") and format_seconds(scores["seconds"]),
    )
    return ", ".join(filter(None, parts))


def _list_machines(run: LoadedRun) -> list[str]:
    def describe(start: dict[str, Any]) -> str:
        system, _, rest = str(start.get("machine") or "").partition("-")
        processor = re.search("x86_64|arm64|aarch64|AMD64", rest)
        parts = [system, processor and processor[0], start.get("gpu") or "no GPU"]
        if start.get("threads"):
            parts.append(f"{start['threads']} threads")
        return ", ".join(part for part in parts if part)

    return _list_unique(describe(start) for start in run.starts)


def _list_versions(run: LoadedRun) -> str:
    return "; ".join(
        f"{name} {', '.join(versions)}"
        for name in ("atrous", "torch")
        if (versions := _list_unique(start.get(name) for start in run.starts))
    )


def _list_unique(values: Iterable[Any]) -> list[str]:
    """Return the distinct values as strings, in order, without None."""
    return list(dict.fromkeys(str(value) for value in values if value is not None))


def _is_finite(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)
