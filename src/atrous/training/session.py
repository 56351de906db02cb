"""One session of a run: checks before it, the training loop, and figures after it."""

import errno
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from atrous.bands import BandStatistics
from atrous.data import SegmentationDataset, open_dataset
from atrous.devices import resolve_device, resolve_precision
from atrous.durations import parse_duration
from atrous.errors import CheckpointError, ConfigError, DataError
from atrous.figures.curves import save_loss_curves
from atrous.files import format_bytes, is_utf8, write_atomically
from atrous.models.layers import on_meta_device
from atrous.models.untrained_taps import fit_rates
from atrous.recipe import Recipe, compute_changed_keys, format_recipe, load_recipe
from atrous.run import RunFolder
from atrous.training.batch_size import (
    MEMORY_SHARE,
    find_batch_size,
    is_memory_ample,
    read_device_bytes,
)
from atrous.training.batches import build_transform, cache_samples
from atrous.training.checkpoint import list_checkpoints
from atrous.training.distributed import World, join_world
from atrous.training.features import FeatureCache, find_obstacle, uses_feature_cache
from atrous.training.learner import Learner, build_segmenter
from atrous.training.log import Listener, note
from atrous.training.loop import TrainingLoop
from atrous.training.notes import list_notes
from atrous.training.plan import Plan, compute_plan
from atrous.training.speed import should_compile
from atrous.training.state import TrainingState
from atrous.training.stopping import StopRequest


@dataclass(frozen=True)
class TrainingResult:
    """Result of a session.

    Attributes:
        reason: Why the session ended: `finished`, `stop-after`, `SIGINT` or `SIGTERM`.
        best_miou: mIoU of the best validation so far, None before the first.
        frozen_sha256: SHA-256 of the frozen part, which was verified; None without one.
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
    max_batch_size: int | None = None,
    listener: Listener | None = None,
) -> TrainingResult:
    """Train by a recipe into a run folder, or resume the run in that folder.

    An interrupted run resumes from its last checkpoint and ends with the same weights, losses and
    scores as an uninterrupted one, bit for bit on a CPU.

    Args:
        recipe: A `Recipe`, or the path of a TOML file.
        out: The run folder, created if missing.
        stop_after: Budget of this session, such as `3h50m`; the next session continues.
        max_batch_size: Replace the recipe's batch size by the largest power of two up to this that
            fits in memory. Resumed runs keep it.
        listener: Called with each log record, and with progress, notes and warnings.

    Raises:
        ConfigError: The recipe is invalid, or differs from the one the run started with.
        DataError: The dataset is invalid, or differs from the one the run started with.
        CheckpointError: All checkpoints are damaged, or one cannot be saved.
        TrainingError: The loss is not finite, or a frozen part has changed.
        Exception: Exceptions of the listener are passed on unchanged.

    Example:
        >>> from atrous import train
        >>> result = train("recipes/shapes.toml", "runs/shapes", stop_after="10min")
        >>> print(result.step, "of", result.total_steps, "steps,", result.best_miou)
    """
    recipe = recipe if isinstance(recipe, Recipe) else load_recipe(Path(recipe))
    budget = None if stop_after is None else parse_duration(stop_after)
    run = RunFolder(Path(out))
    if not is_utf8(run.path):
        raise ConfigError(
            f"The name of the run folder, {str(run.path)!r}, is not valid UTF-8. Choose another."
        )
    if not recipe.data.root:
        raise ConfigError("No data is given: atrous train DATA …, or data.root in the recipe.")
    device = resolve_device(recipe.train.device)
    recipe = _resolve_recipe(recipe, run, device, max_batch_size)
    if run.recipe.exists():
        max_batch_size = None
    world = join_world(device, recipe.train.batch_size if max_batch_size is None else None)
    listener = _wrap_errors(listener if listener and world.is_main else lambda event: None)
    data = recipe.data
    train_set, val_set = (
        open_dataset(data.root, split, format=data.format, ignore_index=data.ignore_index).select(
            data.class_selection
        )
        for split in (data.train_split, data.val_split)
    )
    val_set = replace(val_set, bands=train_set.bands, ranges=train_set.ranges)
    _check_model(recipe, train_set)
    if world.size > 1:
        _check_same_data(train_set, val_set, world)
    if max_batch_size is not None:
        recipe = _fit_batch_size(recipe, train_set, max_batch_size, world, listener)
    try:
        with StopRequest(budget) as stop, run.lock() if world.is_main else nullcontext():
            return _run_session(recipe, run, train_set, val_set, stop, listener, world)
    except ListenerError as error:
        raise error.args[0] from None
    except OSError as error:
        if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOMEM):
            raise  # not a fault of the run folder
        raise CheckpointError(
            f"The run folder {run.path} cannot be written: {error}. Earlier checkpoints are "
            "intact: fix the cause and start the same command again to resume."
        ) from error


def _check_same_data(
    train_set: SegmentationDataset, val_set: SegmentationDataset, world: World
) -> None:
    fingerprints = world.gather((train_set.fingerprint(), val_set.fingerprint()))
    for rank, fingerprint in enumerate(fingerprints):
        if fingerprint != fingerprints[0]:
            raise DataError(
                f"Process {rank} reads other data than process 0 from {train_set.root}: file "
                "names, file sizes or classes differ. Give all machines the same data."
            )


class ListenerError(Exception):
    """Carries an exception of the listener through code that handles its own exceptions."""


def _wrap_errors(listener: Listener) -> Listener:
    def listen(event: dict[str, Any]) -> None:
        try:
            listener(event)
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
    world: World,
) -> TrainingResult:
    is_new, has_checkpoint = world.share(
        (not run.plan.exists(), bool(list_checkpoints(run.checkpoints)))
    )
    if not uses_feature_cache(recipe) or world.size > 1:
        train_set = cache_samples(train_set, recipe.data, run.decoded)
    if is_new:
        _describe_cache(train_set, listener)
        plan = compute_plan(recipe, train_set, val_set, listener, world)
    else:
        plan = Plan.load(run.plan)
        plan.check_data(train_set, val_set)
    ranges = None if plan.bands is None else plan.bands.ranges
    train_set, val_set = train_set.read_as(ranges), val_set.read_as(ranges)
    learner = Learner(
        recipe,
        train_set.classes,
        plan.class_weights,
        load_init=not has_checkpoint,
        world=world,
        bands=plan.bands,
        compile=should_compile(recipe.train, plan.steps_per_epoch),
    )
    if is_new and learner.frozen is not None:
        plan = replace(plan, frozen_sha256=learner.frozen.seal(learner.model))
    listener({"kind": "plan", "plan": plan, "recipe": recipe, "loaded": learner.loaded})
    if not has_checkpoint:
        for event in list_notes(learner, recipe, train_set):
            listener(event)
    state = TrainingState(recipe, run, plan, learner, train_set, val_set)
    checkpoint = state.restore(warn=lambda text: note(listener, text, kind="warning"))
    if checkpoint is not None:
        listener({"kind": "resumed", "step": state.step, "checkpoint": str(checkpoint)})
    loop = TrainingLoop(state, stop, listener)
    features = _plan_features(state, listener)
    if is_new and world.is_main:
        write_atomically(run.recipe, lambda file: file.write(format_recipe(recipe).encode()))
        plan.save(run.plan)
    if features is not None:
        _build_features(features, stop, listener)
    reason = loop.run_session(features)
    if world.is_main:
        save_loss_curves(run.path)
    if reason == "finished" and world.local_rank == 0:
        run.remove_decoded()
    return TrainingResult(
        run.path, state.step, plan.total_steps, reason, state.best_miou, plan.frozen_sha256
    )


def _describe_cache(train_set: SegmentationDataset, listener: Listener) -> None:
    if (cache := train_set.cache) is not None:
        size = format_bytes(cache.num_bytes)
        note(listener, f"Decoded training images are kept in {cache.folder}, {size}.")


def _check_model(recipe: Recipe, train_set: SegmentationDataset) -> None:
    """Check the options of the model and the augmentation, before anything is written."""
    bands = BandStatistics.unknown(train_set.bands)
    with on_meta_device():
        build_transform(recipe.data, build_segmenter(recipe, train_set.classes, bands).card)


def _plan_features(state: TrainingState, listener: Listener) -> FeatureCache | None:
    """Return the feature cache of a run that has one and is not finished; check the disk space."""
    recipe, learner = state.recipe, state.learner
    if state.step == state.plan.total_steps or learner.frozen is None:
        return None
    if learner.cut is None:
        if recipe.train.feature_cache == "auto" and (obstacle := find_obstacle(recipe.data)):
            note(listener, f"The frozen part is computed for every batch, because {obstacle}.")
        return None
    assert learner.frozen.sha256 is not None
    features = FeatureCache(
        recipe,
        Path(recipe.train.feature_cache_dir or state.run.features),
        state.train_set,
        cut=learner.cut,
        compute=learner.compute_features,
        frozen_sha256=learner.frozen.sha256,
    )
    features.check_disk_space()
    return features


def _build_features(features: FeatureCache, stop: StopRequest, listener: Listener) -> None:
    listener({"kind": "features", "cache": features})

    def progress(done: int, total: int) -> None:
        listener({"kind": "computing_features", "done": done, "total": total})

    # If it stops early, the loop ends at once too.
    features.build(should_stop=lambda: stop.is_due(0, 1.0), progress=progress)


def _resolve_recipe(
    recipe: Recipe, run: RunFolder, device: torch.device, max_batch_size: int | None
) -> Recipe:
    """Replace `auto` by concrete values, and check that a started run has the same recipe."""
    started = load_recipe(run.recipe) if run.recipe.exists() else None
    if max_batch_size and started:
        recipe = _set_train(recipe, batch_size=started.train.batch_size)
    if recipe.train.precision == "auto":
        precision = started.train.precision if started else resolve_precision("auto", device)
        recipe = _set_train(recipe, precision=precision)
    if recipe.model.atrous_rates == "fit":
        model = recipe.model
        rates = fit_rates(model.name, model.output_stride, min(recipe.data.train_hw))
        model = model.model_copy(update={"atrous_rates": rates})
        recipe = recipe.model_copy(update={"model": model})
    if started and (changed := compute_changed_keys(started, recipe)):
        raise ConfigError(
            f"The run in {run.path} was started with another recipe; changed: "
            f"{'; '.join(changed)}. Resuming would mix two experiments: start the same command as "
            "before, or give another --out."
        )
    return recipe


def _set_train(recipe: Recipe, **values: Any) -> Recipe:
    return recipe.model_copy(update={"train": recipe.train.model_copy(update=values)})


def _fit_batch_size(
    recipe: Recipe,
    train_set: SegmentationDataset,
    max_batch_size: int,
    world: World,
    listener: Listener,
) -> Recipe:
    """Set a batch size that fits in memory and is a multiple of the number of processes."""
    device = world.choose_device(resolve_device(recipe.train.device))
    available_bytes = min(world.gather(read_device_bytes(device, world.local_size)))
    size = max(1, max_batch_size // world.size)
    peak = ""
    if not is_memory_ample(recipe, size, available_bytes):
        note(listener, "Searching for the largest batch size that fits …")
        found = 0, 0
        if world.is_main:
            found = find_batch_size(
                recipe,
                len(train_set.classes),
                max_batch_size=max(1, min(size, len(train_set) // world.size)),
                memory_bytes=int(MEMORY_SHARE * available_bytes),
                bands=train_set.bands,
            )
        size, peak_bytes = world.share(found)
        peak = f", peak memory {format_bytes(peak_bytes)}"
    if world.size > 1:
        note(listener, f"Batch size {size * world.size}, {size} per process{peak}.")
    elif peak:
        note(listener, f"Batch size {size}{peak}.")
    return _set_train(recipe, batch_size=size * world.size)
