"""Two or more runs on the same pictures: what differs, and what is only noise."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from atrous.data import open_dataset
from atrous.devices import resolve_device
from atrous.errors import AtrousError, ConfigError, WeightsError
from atrous.evaluation.bootstrap import (
    FEWEST_IMAGES,
    Difference,
    Resamples,
    compute_bias_ratio,
    compute_difference,
    compute_estimate,
    compute_ious,
    find_clear,
    resample,
)
from atrous.evaluation.comparison import Comparison, RunDifference, RunScores
from atrous.evaluation.evaluated_run import (
    EvaluatedRun,
    check_comparable,
    load_evaluated_runs,
)
from atrous.evaluation.metrics import FloatArray, compute_ratios
from atrous.inference.cost import Cost, measure_costs
from atrous.models import load_model
from atrous.models.zoo import set_output_stride
from atrous.recipe import compute_changed_keys

FEW_IMAGES = 50
"""Below this, intervals of a run's own mIoU were too narrow in simulation (docs/compare.md)."""

_TRUSTED_BIAS = 0.25
_USUAL_SIZE_HW = (513, 513)


def compare(
    runs: Sequence[Path | str],
    *,
    split: str | None = None,
    num_resamples: int = 10_000,
    seed: int = 0,
    cost: bool = True,
    size_hw: tuple[int, int] | None = None,
    device: str = "auto",
    tell: Callable[[str], object] | None = None,
) -> Comparison:
    """Hold runs against the first one, on the pictures that all were evaluated on.

        from atrous import compare

        comparison = compare(["runs/plain", "runs/weighted"])
        print(comparison.differences[0].sentence)

    Args:
        runs: Run folders, evaluated with `evaluate`; the same one may come twice.
        split: Name of the split; unset, the first run's validation split, else `val`.
        num_resamples: How often the pictures are drawn anew.
        seed: Of those draws.
        cost: Also measure what one picture costs on this machine.
        size_hw: Height and width for that; unset, the commonest of the split, or 513x513 where
            the pictures are not here.
        device: `auto`, `cpu`, `cuda`, … for that.
        tell: Called with what is being done.

    Raises:
        ConfigError: There are fewer than two runs, or one is no run folder or not evaluated.
        DataError: An evaluation is damaged, or the runs cannot be compared.
    """
    if len(runs) < 2:
        raise ConfigError(
            f"There is nothing to compare {runs[0] if runs else 'nothing'} with: give two run "
            "folders or more. The scores of one run alone: `atrous evaluate RUN`."
        )
    evaluated = load_evaluated_runs([Path(run) for run in runs], split)
    check_comparable(evaluated)
    tell = tell or (lambda text: None)
    tell("drawing pictures")
    counts = [run.images.counts for run in evaluated]
    resamples = resample(counts, num_resamples=num_resamples, seed=seed)
    notes = [*_note_settings(evaluated), *_note_intervals(evaluated, resamples)]
    costs: list[Cost | None] = [None] * len(evaluated)
    if cost:
        tell("measuring the cost")
        costs, cost_notes = _measure(evaluated, size_hw, device)
        notes += cost_notes
    scores = [
        _score(run, resamples.miou[index], resamples.iou[index], one_cost)
        for index, (run, one_cost) in enumerate(zip(evaluated, costs, strict=True))
    ]
    first = evaluated[0]
    return Comparison(
        split=first.split,
        num_images=len(first.images.names),
        views=first.views,
        data_fingerprint=first.data_fingerprint,
        convention=first.convention,
        class_names=first.class_names,
        class_images=tuple(first.class_images.tolist()),
        num_resamples=num_resamples,
        seed=seed,
        runs=tuple(scores),
        differences=tuple(_compare_with_first(evaluated, resamples)),
        notes=tuple(notes),
    )


def _score(run: EvaluatedRun, miou: FloatArray, iou: FloatArray, cost: Cost | None) -> RunScores:
    means = compute_ratios(run.total, nothing=0)[run.class_images > 0].mean(axis=0).tolist()
    return RunScores(
        name=run.name,
        folder=str(run.folder),
        model=run.model,
        output_stride=run.output_stride,
        precision=run.precision,
        miou=compute_estimate(run.miou, miou, run.num_labelled_images),
        precision_macro=means[1],
        recall_macro=means[2],
        f1_macro=means[3],
        iou=tuple(
            compute_estimate(value, drawn, number) if number else None
            for value, drawn, number in _zip_classes(compute_ious(run.total), iou, run)
        ),
        cost=cost,
    )


def _compare_with_first(runs: Sequence[EvaluatedRun], resamples: Resamples) -> list[RunDifference]:
    first = runs[0]
    mious = [
        compute_difference(run.miou - first.miou, drawn, first.num_labelled_images)
        for run, drawn in zip(runs[1:], resamples.miou[1:] - resamples.miou[0], strict=True)
    ]
    return [
        RunDifference(
            name=run.name,
            against=first.name,
            miou=miou,
            is_clear=is_clear,
            sentence=_put_into_words(first, run, miou, is_clear, len(mious)),
            iou=iou,
            clear=tuple(find_clear(iou)),
            recipe_changes=_list_recipe_changes(first, run),
        )
        for run, drawn, miou, is_clear in zip(
            runs[1:], resamples.iou[1:] - resamples.iou[0], mious, find_clear(mious), strict=True
        )
        for iou in [_compare_classes(first, run, drawn)]
    ]


def _compare_classes(
    first: EvaluatedRun, run: EvaluatedRun, drawn: FloatArray
) -> tuple[Difference | None, ...]:
    differences = compute_ious(run.total) - compute_ious(first.total)
    return tuple(
        compute_difference(value, column, number) if number else None
        for value, column, number in _zip_classes(differences, drawn, run)
    )


def _zip_classes(
    values: FloatArray, drawn: FloatArray, run: EvaluatedRun
) -> Iterator[tuple[float, FloatArray, int]]:
    """Yield for each class its value, its resamples and the number of pictures with it."""
    return zip(values.tolist(), drawn.T, run.class_images.tolist(), strict=True)


def _put_into_words(
    first: EvaluatedRun, run: EvaluatedRun, miou: Difference, is_clear: bool, num_asked: int
) -> str:
    here = f"on these {len(run.images.names)} pictures"
    if miou.low is None or miou.high is None:
        return (
            f"With so few pictures there is no saying whether {run.name} or {first.name} is better."
        )
    if np.array_equal(first.images.counts, run.images.counts):
        return f"{run.name} and {first.name} have the same counts on every picture."
    size, interval = miou.format_value(), f"95 % interval {miou.format_interval()}"
    if is_clear:
        word = "better" if miou.value > 0 else "worse"
        return f"{run.name} is {word} than {first.name} {here}: {size} mIoU, {interval}."
    if miou.low > 0 or miou.high < 0:
        return (
            f"{run.name} differs from {first.name} {here} by {size} mIoU, {interval}; alone that "
            f"would be clear, but among {num_asked} comparisons it may be chance."
        )
    return f"{run.name} and {first.name} are not distinguishable {here}: {size} mIoU, {interval}."


def _list_recipe_changes(first: EvaluatedRun, run: EvaluatedRun) -> tuple[str, ...]:
    if first.recipe is None or run.recipe is None:
        return ()
    return tuple(compute_changed_keys(first.recipe, run.recipe))


def _note_settings(runs: Sequence[EvaluatedRun]) -> list[str]:
    notes = []
    for what, values in (
        ("Evaluated in different precisions", [run.precision for run in runs]),
        (
            "Evaluated at different output strides",
            [run.output_stride or "none to choose" for run in runs],
        ),
        ("Trained for different budgets", [_describe_budget(run) for run in runs]),
    ):
        if len(set(values)) > 1:
            each = "; ".join(
                f"{run.name}: {value}" for run, value in zip(runs, values, strict=True)
            )
            notes.append(f"{what}, which the difference includes: {each}.")
    return notes


def _describe_budget(run: EvaluatedRun) -> str:
    if run.recipe is None or run.total_steps is None:
        return "unknown"
    settings = run.recipe.train
    batch = settings.batch_size * settings.accumulate
    side_px = run.recipe.data.size or run.recipe.data.crop
    return f"{run.total_steps} steps of {batch} pictures at {side_px} px"


def _note_intervals(runs: Sequence[EvaluatedRun], resamples: Resamples) -> list[str]:
    notes, num_images = [], runs[0].num_labelled_images
    if num_images < FEWEST_IMAGES:
        return [f"Fewer than {FEWEST_IMAGES} labelled pictures have no interval: evaluate on more."]
    if num_images < FEW_IMAGES:
        notes.append(
            f"Only {num_images} pictures: intervals of mIoU itself are too narrow then, those of "
            "the differences hold."
        )
    biased = [
        run.name
        for run, miou in zip(runs, resamples.miou, strict=True)
        if compute_bias_ratio(run.miou, miou) > _TRUSTED_BIAS
    ]
    if biased:
        notes.append(
            f"Some classes are in few pictures, so that the interval of mIoU itself is too narrow "
            f"({', '.join(dict.fromkeys(biased))}); those of the differences hold."
        )
    return notes


def _measure(
    runs: Sequence[EvaluatedRun], size_hw: tuple[int, int] | None, device: str
) -> tuple[list[Cost | None], list[str]]:
    try:
        models = [
            set_output_stride(
                load_model(run.folder, device=resolve_device(device)), run.output_stride
            )
            for run in runs
        ]
    except WeightsError as error:
        return [None] * len(runs), [f"The cost was not measured. {error}"]
    size_hw = size_hw or _find_usual_size_hw(runs[0])
    return list(measure_costs(models, size_hw=size_hw, views=runs[0].views)), []


def _find_usual_size_hw(run: EvaluatedRun) -> tuple[int, int]:
    """Return the commonest size of the first pictures of the split, if they are still there."""
    try:
        dataset = open_dataset(run.data, run.split)
        sizes = Counter(map(_read_size, dataset.image_paths[:100]))
    except (AtrousError, OSError):
        return _USUAL_SIZE_HW
    (width, height), _ = sizes.most_common(1)[0]
    return height, width


def _read_size(path: Path) -> tuple[int, int]:
    with Image.open(path) as picture:
        return picture.size
