"""One session of a run: checks before it, the training loop, and figures after it."""

import errno
import fcntl
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from atrous.data import SegmentationDataset, open_dataset
from atrous.devices import resolve_device, resolve_precision
from atrous.durations import parse_duration
from atrous.errors import CheckpointError, ConfigError
from atrous.figures.curves import save_loss_curves
from atrous.files import is_utf8, write_atomically
from atrous.models.fitting import group_names
from atrous.models.layers import on_meta_device
from atrous.models.untrained_taps import compute_map_hw, fit_rates
from atrous.recipe import Recipe, compute_changed_keys, format_recipe, load_recipe
from atrous.run import RunFolder
from atrous.training.batch_size import find_batch_size
from atrous.training.checkpoint import list_checkpoints
from atrous.training.features import FeatureCache, find_obstacle, format_bytes
from atrous.training.learner import Learner, build_segmenter
from atrous.training.log import Listener
from atrous.training.loop import TrainingLoop
from atrous.training.plan import Plan, compute_plan
from atrous.training.state import TrainingState
from atrous.training.stopping import StopRequest


@dataclass(frozen=True)
class TrainingResult:
    """Result of a session.

    Attributes:
        run: The run folder.
        step, total_steps: Number of finished steps, and of all steps of the run.
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
    auto_batch_size: bool = False,
    listener: Listener | None = None,
) -> TrainingResult:
    """Train by a recipe into a run folder, or resume the run in that folder.

    An interrupted run resumes from its last checkpoint and ends with the same weights, losses and
    scores as an uninterrupted one, bit for bit on a CPU.

    Args:
        recipe: A `Recipe`, or the path of a TOML file.
        out: The run folder, created if missing.
        stop_after: Budget of this session, such as `3h50m`; the next session continues.
        auto_batch_size: Replace the recipe's batch size by the largest power of two that fits in
            memory. Resumed runs keep it.
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
    listener = _wrap_errors(listener) if listener else lambda event: None
    if not is_utf8(run.path):
        raise ConfigError(
            f"The name of the run folder, {str(run.path)!r}, is not valid UTF-8. Choose another."
        )
    if not recipe.data.root:
        raise ConfigError("No data is given: atrous train DATA …, or data.root in the recipe.")
    recipe = _resolve_recipe(recipe, run, auto_batch_size)
    data = recipe.data
    train_set, val_set = (
        open_dataset(data.root, split, format=data.format, ignore_index=data.ignore_index).select(
            data.class_selection
        )
        for split in (data.train_split, data.val_split)
    )
    with on_meta_device():
        build_segmenter(recipe, train_set.classes)  # checks options before anything is written
    if auto_batch_size and not run.recipe.exists():
        recipe = _find_batch_size(recipe, train_set, listener)
    try:
        with StopRequest(budget) as stop, _lock(run):
            return _run_session(recipe, run, train_set, val_set, stop, listener)
    except ListenerError as error:
        raise error.raised from None
    except OSError as error:
        if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOMEM):
            raise  # not a fault of the run folder
        raise CheckpointError(
            f"The run folder {run.path} cannot be written: {error}. Earlier checkpoints are "
            "intact: fix the cause and start the same command again to resume."
        ) from error


class ListenerError(Exception):
    """Carries an exception of the listener through code that handles its own exceptions."""

    def __init__(self, raised: Exception) -> None:
        super().__init__()
        self.raised = raised


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
) -> TrainingResult:
    is_new, has_checkpoint = not run.plan.exists(), bool(list_checkpoints(run.checkpoints))
    if is_new:
        plan = compute_plan(recipe, train_set, val_set, listener)
    else:
        plan = Plan.load(run.plan)
        plan.check_data(train_set, val_set)
    learner = Learner(recipe, train_set.classes, plan.class_weights, load_init=not has_checkpoint)
    if is_new and learner.frozen is not None:
        plan = replace(plan, frozen_sha256=learner.frozen.seal(learner.model))
    listener({"kind": "plan", "plan": plan, "recipe": recipe, "loaded": learner.loaded})
    if not has_checkpoint:
        _note_selected_classes(train_set, recipe, listener)
        _warn_of_random_frozen(learner, listener)
        _note_untrained_taps(learner, recipe, listener)
    state = TrainingState(recipe, run, plan, learner, train_set, val_set)
    checkpoint = state.restore(warn=lambda text: listener({"kind": "warning", "message": text}))
    if checkpoint is not None:
        listener({"kind": "resumed", "step": state.step, "checkpoint": str(checkpoint)})
    loop = TrainingLoop(state, stop, listener)
    features = _plan_features(state, listener)
    if is_new:
        write_atomically(run.recipe, lambda file: file.write(format_recipe(recipe).encode()))
        plan.save(run.plan)
    if features is not None:
        _build_features(features, stop, listener)
    reason = loop.run_session(features)
    save_loss_curves(run.path)
    return TrainingResult(
        run.path, state.step, plan.total_steps, reason, state.best_miou, plan.frozen_sha256
    )


def _note_selected_classes(
    train_set: SegmentationDataset, recipe: Recipe, listener: Listener
) -> None:
    if train_set.selection is None:
        return
    other = recipe.data.other
    rest = f"other classes become {other}" if other else "pixels of other classes are ignored"
    message = f"Classes of this run: {', '.join(train_set.classes.names)}; {rest}."
    listener({"kind": "note", "message": message})


def _warn_of_random_frozen(learner: Learner, listener: Listener) -> None:
    frozen = learner.frozen.names if learner.frozen else []
    random = set(frozen if learner.loaded is None else learner.loaded.missing)
    if names := [name for name in frozen if name in random]:
        message = "The frozen part has random weights, which training does not change: "
        message += f"{', '.join(group_names(names))}. Load weights with --init, or freeze less."
        listener({"kind": "warning", "message": message})


def _note_untrained_taps(learner: Learner, recipe: Recipe, listener: Listener) -> None:
    rates = sorted({taps.rate for taps in learner.untrained_taps})
    if not rates:
        return
    height, width = recipe.data.train_hw
    cells = compute_map_hw(learner.model, (height, width))
    fitted = fit_rates(recipe.model.name, recipe.model.output_stride, min(height, width))
    fitting = ", ".join(map(str, fitted))
    message = f"On training images of {height}×{width} the feature map has {cells[0]}×{cells[1]} "
    message += f"cells: taps at rate {', '.join(map(str, rates))} reach beyond it, get no gradient "
    message += f'and start at zero. model.atrous_rates = "fit" sets {fitting}; see '
    message += "docs/atrous-rates.md."
    listener({"kind": "note", "message": message})


def _plan_features(state: TrainingState, listener: Listener) -> FeatureCache | None:
    """Return the feature cache of a run that has one and is not finished; check the disk space."""
    recipe, learner = state.recipe, state.learner
    if state.step == state.plan.total_steps or learner.frozen is None:
        return None
    if learner.cut is None:
        if recipe.train.feature_cache == "auto" and (obstacle := find_obstacle(recipe.data)):
            message = f"The frozen part is computed for every batch, because {obstacle}."
            listener({"kind": "note", "message": message})
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


def _resolve_recipe(recipe: Recipe, run: RunFolder, auto_batch_size: bool) -> Recipe:
    """Replace `auto` by concrete values, and check that a started run has the same recipe."""
    device = resolve_device(recipe.train.device)
    started = load_recipe(run.recipe) if run.recipe.exists() else None
    if auto_batch_size and started:
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


def _find_batch_size(recipe: Recipe, train_set: SegmentationDataset, listener: Listener) -> Recipe:
    listener({"kind": "note", "message": "Searching for the largest batch size that fits …"})
    batch_size, peak_bytes = find_batch_size(
        recipe, len(train_set.classes), max_batch_size=len(train_set)
    )
    message = f"Batch size {batch_size}, peak memory {format_bytes(peak_bytes)}."
    listener({"kind": "note", "message": message})
    return _set_train(recipe, batch_size=batch_size)


@contextmanager
def _lock(run: RunFolder) -> Iterator[None]:
    """Lock the run folder against other trainings; the lock ends with the process.

    This is a record lock, which worker processes that outlive a killed parent do not inherit.
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
        for leftover in run.path.glob(".*.tmp"):  # incomplete files of a killed session
            leftover.unlink()
        try:
            yield
        finally:
            if not run.recipe.exists():  # the run did not start: remove the folder
                path.unlink(missing_ok=True)
                with suppress(OSError):
                    run.path.rmdir()
