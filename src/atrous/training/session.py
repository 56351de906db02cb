"""One session of a run: what has to be right before it, the loop, what is drawn after it."""

import errno
import fcntl
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from atrous.data import (
    SegmentationDataset,
    check_foreground,
    check_labelled,
    compute_mask_statistics,
    open_dataset,
)
from atrous.devices import resolve_device, resolve_precision
from atrous.durations import parse_duration
from atrous.errors import CheckpointError, ConfigError
from atrous.figures.curves import save_loss_curves
from atrous.files import is_utf8, write_atomically
from atrous.models.fitting import group_names
from atrous.models.layers import on_meta_device
from atrous.models.untrained_taps import compute_map_hw
from atrous.recipe import Recipe, compute_changed_keys, format_recipe, load_recipe
from atrous.run import RunFolder
from atrous.training.batch_size import find_batch_size
from atrous.training.checkpoint import list_checkpoints
from atrous.training.features import (
    FeatureCache,
    find_obstacle,
    format_bytes,
)
from atrous.training.learner import Learner, build_segmenter
from atrous.training.loop import Listener, TrainingLoop
from atrous.training.plan import Plan, Speed, compute_plan
from atrous.training.speed import measure_speed
from atrous.training.stopping import StopRequest


@dataclass(frozen=True)
class TrainingResult:
    """How a session ended.

    Attributes:
        run: The run folder.
        step, total_steps: Steps finished, and steps of the whole run.
        reason: `finished`, `stop-after`, `SIGINT` or `SIGTERM`.
        best_miou: Of the best validation so far, None before the first.
        frozen_sha256: Of the part that was to stay as it is, and did; None if nothing was.
    """

    run: Path
    step: int
    total_steps: int
    reason: str
    best_miou: float | None
    frozen_sha256: str | None = None


def train(
    recipe: Recipe | str | Path,
    out: str | Path,
    *,
    stop_after: str | None = None,
    auto_batch_size: bool = False,
    listener: Listener | None = None,
) -> TrainingResult:
    """Train by a recipe into a run folder, or go on with the run that is in it.

    A run that was stopped or killed goes on from its last checkpoint and ends with the same
    weights, losses and scores as if it had never been interrupted, bit for bit on a CPU.

    Args:
        recipe: A `Recipe`, or the path of a TOML file.
        out: The run folder; made if it is not there.
        stop_after: Budget of this session, such as `3h50m`; the run goes on next time.
        auto_batch_size: Replace the recipe's batch size by the largest power of two that fits in
            memory. The run keeps it: a resumed run uses the same.
        listener: Called with every record of the log, and with progress and warnings.

    Raises:
        ConfigError: The recipe cannot be used, or is not the one that the run began with.
        DataError: The images cannot be used, or are not those that the run began with.
        CheckpointError: No checkpoint of the run is whole, or one cannot be saved.
        TrainingError: The loss is no longer a finite number, or a frozen part has changed.
        Exception: Whatever the listener raises, as it is.

    Example:
        >>> from atrous import train
        >>> result = train("recipes/shapes.toml", "runs/shapes", stop_after="10min")
        >>> print(result.step, "of", result.total_steps, "steps,", result.best_miou)
    """
    recipe = recipe if isinstance(recipe, Recipe) else load_recipe(Path(recipe))
    budget = None if stop_after is None else parse_duration(stop_after)
    run = RunFolder(Path(out))
    listener = _set_apart(listener) if listener else lambda record: None
    if not is_utf8(run.path):
        raise ConfigError(
            f"The name of the run folder, {str(run.path)!r}, is no UTF-8. Choose another."
        )
    if not recipe.data.root:
        raise ConfigError("No data is given: atrous train DATA …, or data.root in the recipe.")
    if auto_batch_size and run.recipe.exists():
        recipe = _set_train(recipe, batch_size=load_recipe(run.recipe).train.batch_size)
    recipe = _settle_recipe(recipe, run)
    train_set, val_set = (
        open_dataset(
            recipe.data.root,
            split,
            format=recipe.data.format,
            ignore_index=recipe.data.ignore_index,
        )
        for split in (recipe.data.train_split, recipe.data.val_split)
    )
    with on_meta_device():
        build_segmenter(recipe, train_set.classes)  # refuses options before anything is written
    if auto_batch_size and not run.recipe.exists():
        recipe = _find_batch_size(recipe, train_set, listener)
    try:
        with StopRequest(budget) as stop, _lock(run):
            return _run_session(recipe, run, train_set, val_set, stop, listener)
    except ListenerError as error:
        raise error.raised from None
    except OSError as error:
        if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOMEM):
            raise  # nothing is wrong with the run folder
        raise CheckpointError(
            f"The run folder {run.path} cannot be written: {error}. What was saved before is still "
            "good: mend the cause, and start the same command again to go on from there."
        ) from error


class ListenerError(Exception):
    """Carries what a listener raised past those who would take it for their own failure."""

    def __init__(self, raised: Exception) -> None:
        super().__init__()
        self.raised = raised


def _set_apart(listener: Listener) -> Listener:
    def listen(record: dict[str, Any]) -> None:
        try:
            listener(record)
        except Exception as error:
            raise ListenerError(error) from error

    return listen


def _run_session(
    recipe: Recipe,
    run: RunFolder,
    train_set: SegmentationDataset,
    val_set: SegmentationDataset,
    stop: StopRequest,
    listener: Listener,
) -> TrainingResult:
    begins = not run.plan.exists()
    if begins:
        plan = _make_plan(recipe, train_set, val_set, listener)
    else:
        plan = Plan.load(run.plan)
        plan.check_data(train_set, val_set)
    goes_on = bool(list_checkpoints(run.checkpoints))
    learner = Learner(recipe, train_set.classes, plan.class_weights, load_init=not goes_on)
    if begins and learner.frozen is not None:
        plan = replace(plan, frozen_sha256=learner.frozen.seal(learner.model))
    listener({"kind": "plan", "plan": plan, "recipe": recipe, "loaded": learner.loaded})
    if not goes_on:
        _warn_of_new_frozen(learner, listener)
        _note_untrained_taps(learner, recipe, listener)
    loop = TrainingLoop(recipe, run, plan, learner, train_set, val_set, stop, listener)
    features = None
    if loop.step < plan.total_steps:
        features = _plan_features(recipe, run, learner, train_set, listener)
    if begins:
        write_atomically(run.recipe, lambda file: file.write(format_recipe(recipe).encode()))
        plan.save(run.plan)
    if features is not None:
        _build_features(features, stop, listener)
    reason = loop.run_session(features)
    save_loss_curves(run.path)
    return TrainingResult(
        run.path, loop.step, plan.total_steps, reason, loop.best_miou, plan.frozen_sha256
    )


def _warn_of_new_frozen(learner: Learner, listener: Listener) -> None:
    if learner.frozen is None:
        return
    new = set(learner.frozen.names if learner.loaded is None else learner.loaded.missing)
    if never := [name for name in learner.frozen.names if name in new]:
        message = "The frozen part has random weights, which training does not change: "
        message += f"{', '.join(group_names(never))}. Load weights with --init, or freeze less."
        listener({"kind": "warning", "message": message})


def _note_untrained_taps(learner: Learner, recipe: Recipe, listener: Listener) -> None:
    rates = sorted({taps.rate for taps in learner.untrained_taps})
    if not rates:
        return
    height, width = recipe.data.train_hw
    cells = compute_map_hw(learner.model, (height, width))
    message = f"On training images of {height}×{width} the feature map has {cells[0]}×{cells[1]} "
    message += f"cells: taps at rate {', '.join(map(str, rates))} reach beyond it, get no gradient "
    message += f"and start at zero. Rates below {min(cells)} are trained; see docs/atrous-rates.md."
    listener({"kind": "note", "message": message})


def _plan_features(
    recipe: Recipe,
    run: RunFolder,
    learner: Learner,
    dataset: SegmentationDataset,
    listener: Listener,
) -> FeatureCache | None:
    """Return where the features are or will be kept, once it is known that the disk has room."""
    if learner.cut is None or learner.frozen is None:
        obstacle = find_obstacle(recipe.data)
        if learner.frozen is not None and recipe.train.feature_cache == "auto" and obstacle:
            message = f"The frozen part is computed for every batch: {obstacle}, and its features "
            message += "could be computed once."
            listener({"kind": "note", "message": message})
        return None
    folder = Path(recipe.train.feature_cache_dir or run.features)
    frozen_sha256 = learner.frozen.sha256
    assert frozen_sha256 is not None
    features = FeatureCache(
        recipe,
        folder,
        dataset,
        cut=learner.cut,
        compute=learner.compute_features,
        frozen_sha256=frozen_sha256,
    )
    features.check_disk_space()
    return features


def _build_features(features: FeatureCache, stop: StopRequest, listener: Listener) -> None:
    """Compute missing features; if a stop is requested meanwhile, the loop ends at once too."""
    listener({"kind": "features", "cache": features})

    def progress(done: int, total: int) -> None:
        listener({"kind": "computing_features", "done": done, "total": total})

    features.build(should_stop=lambda: stop.is_due(0, 1.0), progress=progress)


def _settle_recipe(recipe: Recipe, run: RunFolder) -> Recipe:
    """Replace `auto` by what it means here, or hold the recipe against the run's own."""
    device = resolve_device(recipe.train.device)
    begun = load_recipe(run.recipe) if run.recipe.exists() else None
    if recipe.train.precision == "auto":
        precision = begun.train.precision if begun else resolve_precision("auto", device)
        recipe = _set_train(recipe, precision=precision)
    if begun and (changed := compute_changed_keys(begun, recipe)):
        raise ConfigError(
            f"The run in {run.path} began with another recipe; changed: {'; '.join(changed)}. "
            "Going on would mix two experiments: start the same command as before, or give "
            "another --out."
        )
    return recipe


def _set_train(recipe: Recipe, **values: Any) -> Recipe:
    return recipe.model_copy(update={"train": recipe.train.model_copy(update=values)})


def _find_batch_size(recipe: Recipe, train_set: SegmentationDataset, listener: Listener) -> Recipe:
    listener({"kind": "note", "message": "Searching for the largest batch size that fits …"})
    batch_size, peak_bytes = find_batch_size(
        recipe, len(train_set.classes), max_batch_size=len(train_set)
    )
    message = f"Batch size {batch_size}, peak memory {format_bytes(peak_bytes)}."
    listener({"kind": "note", "message": message})
    return _set_train(recipe, batch_size=batch_size)


def _make_plan(
    recipe: Recipe, train_set: SegmentationDataset, val_set: SegmentationDataset, listener: Listener
) -> Plan:
    def on_progress(num_done: int, total: int) -> None:
        listener({"kind": "checking", "done": num_done, "total": total})

    statistics = compute_mask_statistics(train_set, on_progress)
    check_foreground(train_set, statistics)
    check_labelled(train_set, statistics)
    check_labelled(val_set, compute_mask_statistics(val_set, on_progress))

    def measure(class_weights: list[float] | None) -> Speed:
        listener({"kind": "measuring"})
        learner = Learner(recipe, train_set.classes, class_weights)
        return measure_speed(learner, recipe, train_set, val_set)

    return compute_plan(recipe, train_set, val_set, statistics, measure)


@contextmanager
def _lock(run: RunFolder) -> Iterator[None]:
    """Keep a second training out of the folder; the lock goes with the process, however it ends.

    A record lock, because readers of images that outlive a killed parent must not inherit it.
    """
    path = run.path / ".lock"
    run.path.mkdir(parents=True, exist_ok=True)
    with open(path, "w", encoding="utf-8") as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigError(
                f"Another training is writing to {run.path}. Wait for it, stop it, or give "
                "another --out."
            ) from None
        for leftover in run.path.glob(".*.tmp"):  # half-written when a session was killed
            leftover.unlink()
        try:
            yield
        finally:
            if not run.recipe.exists():  # nothing came of it: leave nothing behind
                path.unlink(missing_ok=True)
                with suppress(OSError):
                    run.path.rmdir()
