"""Comparison of runs on the same images, with bootstrap intervals and cost."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from atrous.data import open_dataset
from atrous.devices import resolve_device
from atrous.errors import AtrousError, ConfigError, WeightsError
from atrous.evaluation import bootstrap
from atrous.evaluation.comparison import RunComparison, RunDifference, RunScores, check_comparable
from atrous.evaluation.metrics import FloatArray, compute_ious, compute_ratios
from atrous.evaluation.run_reader import EvaluatedRun, load_evaluated_runs
from atrous.images.image_file import read_image_size
from atrous.models import load_model
from atrous.models.zoo import set_output_stride
from atrous.profile.cost import Cost, measure_costs
from atrous.recipe import compute_changed_keys

MIN_RELIABLE_IMAGES = 50
"""With fewer images, intervals of a run's own mIoU are too narrow (docs/compare.md)."""

_MAX_BIAS_RATIO = 0.25
_DEFAULT_SIZE_HW = (513, 513)


def compare(
    runs: Sequence[Path | str],
    *,
    split: str | None = None,
    num_resamples: int = 10_000,
    seed: int = 0,
    cost: bool = True,
    size_hw: tuple[int, int] | None = None,
    device: str = "auto",
    listener: Callable[[dict[str, Any]], object] = lambda event: None,
) -> RunComparison:
    """Compare runs with the first one, on the images that all were evaluated on.

        from atrous import compare

        comparison = compare(["runs/plain", "runs/weighted"])
        print(comparison.differences[0].sentence)

    Args:
        runs: Run folders, evaluated with `evaluate`; one may be given twice.
        split: Name of the split; by default, the first run's validation split, else `val`.
        cost: Also measure parameters, GFLOPs, latency and memory on this machine.
        size_hw: Height and width of the image for the cost measurement; by default, the most
            common size of the split, or 513×513 if its images are not available.
        device: Device for the cost measurement: `auto`, `cpu`, `cuda`, …
        listener: Called with an event of kind `note` and a `message` when a stage begins.

    Raises:
        ConfigError: Fewer than two runs are given, or one is not a run folder or not evaluated.
        DataError: An evaluation is damaged, or the runs are not comparable.
    """
    if len(runs) < 2:
        raise ConfigError(
            f"A comparison needs at least two runs, not {len(runs)}: give two run folders or more. "
            "`atrous evaluate RUN` shows the scores of one run."
        )
    evaluated = load_evaluated_runs([Path(run) for run in runs], split)
    check_comparable(evaluated)
    listener({"kind": "note", "message": "resampling images"})
    counts = [run.images.counts for run in evaluated]
    resamples = bootstrap.resample(counts, num_resamples=num_resamples, seed=seed)
    notes = [*_note_settings(evaluated), *_note_intervals(evaluated, resamples)]
    costs: list[Cost | None] = [None] * len(evaluated)
    if cost:
        listener({"kind": "note", "message": "measuring the cost"})
        costs, cost_notes = _measure(evaluated, size_hw, device)
        notes += cost_notes
    rows = zip(evaluated, resamples.miou, resamples.iou, costs, strict=True)
    first = evaluated[0]
    return RunComparison(
        split=first.scores["split"],
        num_images=len(first.images.names),
        tta=first.tta,
        data_fingerprint=first.scores["data_fingerprint"],
        convention=first.scores["convention"],
        class_names=first.class_names,
        class_images=tuple(first.class_images.tolist()),
        num_resamples=num_resamples,
        seed=seed,
        runs=tuple(_score(*row) for row in rows),
        differences=tuple(_compare_with_first(evaluated, resamples)),
        notes=tuple(notes),
    )


def _score(run: EvaluatedRun, miou: FloatArray, iou: FloatArray, cost: Cost | None) -> RunScores:
    means = compute_ratios(run.total, zero_division=0)[run.class_images > 0].mean(axis=0).tolist()
    return RunScores(
        name=run.name,
        folder=str(run.folder.path),
        model=run.scores["model"],
        output_stride=run.scores["output_stride"],
        precision=run.scores["precision"],
        miou=bootstrap.compute_estimate(run.miou, miou, run.num_labelled_images),
        precision_macro=means[1],
        recall_macro=means[2],
        f1_macro=means[3],
        iou=tuple(
            bootstrap.compute_estimate(value, resampled, number) if number else None
            for value, resampled, number in _zip_classes(compute_ious(run.total), iou, run)
        ),
        cost=cost,
    )


def _compare_with_first(
    runs: Sequence[EvaluatedRun], resamples: bootstrap.Resamples
) -> Iterator[RunDifference]:
    first = runs[0]
    mious = [
        bootstrap.compute_difference(run.miou - first.miou, resampled, first.num_labelled_images)
        for run, resampled in zip(runs[1:], resamples.miou[1:] - resamples.miou[0], strict=True)
    ]
    for run, resampled, miou, is_significant in zip(
        runs[1:], resamples.iou[1:] - resamples.iou[0], mious, bootstrap.holm(mious), strict=True
    ):
        values = compute_ious(run.total) - compute_ious(first.total)
        iou = tuple(
            bootstrap.compute_difference(value, column, number) if number else None
            for value, column, number in _zip_classes(values, resampled, run)
        )
        changes: list[str] = []
        if first.stored_recipe and run.stored_recipe:
            changes = compute_changed_keys(first.stored_recipe, run.stored_recipe)
        yield RunDifference(
            name=run.name,
            against=first.name,
            miou=miou,
            is_significant=is_significant,
            sentence=_describe_difference(first, run, miou, is_significant, len(mious)),
            iou=iou,
            iou_is_significant=tuple(bootstrap.holm(iou)),
            recipe_changes=tuple(changes),
        )


def _zip_classes(
    values: FloatArray, resampled: FloatArray, run: EvaluatedRun
) -> Iterator[tuple[float, FloatArray, int]]:
    """Yield for each class its value, its resamples and the number of images with it."""
    return zip(values.tolist(), resampled.T, run.class_images.tolist(), strict=True)


def _describe_difference(
    first: EvaluatedRun,
    run: EvaluatedRun,
    miou: bootstrap.Difference,
    is_significant: bool,
    num_tests: int,
) -> str:
    here = f"on these {len(run.images.names)} images"
    if miou.low is None or miou.high is None:
        return f"There are too few images to tell whether {run.name} or {first.name} is better."
    if np.array_equal(first.images.counts, run.images.counts):
        return f"{run.name} and {first.name} have the same counts on every image."
    points, low, high = (
        f"{100 * value:+.1f}".replace("-", "−") for value in (miou.value, miou.low, miou.high)
    )
    if miou.low <= 0 <= miou.high:
        return (
            f"{run.name} and {first.name} are not distinguishable {here}: the difference is "
            f"{points} points of mIoU (95 % interval {low} to {high})."
        )
    word, higher = ("better", "higher") if miou.value > 0 else ("worse", "lower")
    ends = sorted((abs(miou.low), abs(miou.high)))
    interval = f"95 % interval {100 * ends[0]:.1f} to {100 * ends[1]:.1f}"
    size = f"{abs(100 * miou.value):.1f} points of mIoU"
    if is_significant:
        return f"{run.name} is {word} than {first.name} by {size} {here} ({interval})."
    return (
        f"{run.name} is {size} {higher} than {first.name} {here} ({interval}), but this is not "
        f"significant after correction for {num_tests} comparisons."
    )


def _note_settings(runs: Sequence[EvaluatedRun]) -> list[str]:
    names, notes = [run.name for run in runs], []
    strides = [run.scores["output_stride"] or "not an option" for run in runs]
    for what, values in (
        ("evaluated in different precisions", [run.scores["precision"] for run in runs]),
        ("evaluated at different output strides", strides),
        ("trained with different budgets", [_describe_budget(run) for run in runs]),
    ):
        if len(set(values)) > 1:
            each = "; ".join(f"{name}: {one}" for name, one in zip(names, values, strict=True))
            notes.append(f"The runs were {what}, which the difference includes: {each}.")
    return notes


def _describe_budget(run: EvaluatedRun) -> str:
    recipe, total_steps = run.stored_recipe, run.plan.get("total_steps")
    if recipe is None or total_steps is None:
        return "unknown"
    batch = recipe.train.batch_size * recipe.train.accumulate
    return f"{total_steps} steps of {batch} images at {recipe.data.size or recipe.data.crop} px"


def _note_intervals(runs: Sequence[EvaluatedRun], resamples: bootstrap.Resamples) -> list[str]:
    notes, num_images = [], runs[0].num_labelled_images
    if num_images < bootstrap.MIN_IMAGES:
        few = f"Fewer than {bootstrap.MIN_IMAGES} labelled images"
        return [f"{few} have no interval: evaluate on more."]
    if num_images < MIN_RELIABLE_IMAGES:
        notes.append(
            f"Only {num_images} images: the intervals of mIoU itself are too narrow; those of the "
            "differences are reliable."
        )
    biased = [
        run.name
        for run, miou in zip(runs, resamples.miou, strict=True)
        if bootstrap.compute_bias_ratio(run.miou, miou) > _MAX_BIAS_RATIO
    ]
    if biased:
        notes.append(
            "Some classes are in few images, so the interval of mIoU itself is too narrow "
            f"({', '.join(dict.fromkeys(biased))}); those of the differences are reliable."
        )
    return notes


def _measure(
    runs: Sequence[EvaluatedRun], size_hw: tuple[int, int] | None, device: str
) -> tuple[list[Cost | None], list[str]]:
    try:
        loaded = [load_model(run.folder.path, device=resolve_device(device)) for run in runs]
        models = [
            set_output_stride(model, run.scores["output_stride"])
            for model, run in zip(loaded, runs, strict=True)
        ]
    except WeightsError as error:
        return [None] * len(runs), [f"The cost was not measured. {error}"]
    size_hw = size_hw or _find_common_size_hw(runs[0])
    return list(measure_costs(models, size_hw=size_hw, tta=runs[0].tta)), []


def _find_common_size_hw(run: EvaluatedRun) -> tuple[int, int]:
    """Return the most common size of the first images of the split, if they are available."""
    try:
        dataset = open_dataset(run.scores["data"], run.scores["split"])
        sizes = Counter(map(read_image_size, dataset.image_paths[:100]))
    except AtrousError:
        return _DEFAULT_SIZE_HW
    return sizes.most_common(1)[0][0]
