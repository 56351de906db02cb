"""The training loop: stops anywhere, goes on exactly."""

import fcntl
import json
import os
import platform
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

import atrous
from atrous.data import Batch, SegmentationDataset, TrainTransform, build_train_loader, open_dataset
from atrous.data.statistics import compute_mask_statistics
from atrous.durations import Duration, parse_duration
from atrous.errors import CheckpointError, ConfigError, TrainingError
from atrous.evaluation.counts import CountArray
from atrous.evaluation.evaluate import evaluate_model
from atrous.evaluation.metrics import compute_scores
from atrous.files import write_atomically
from atrous.inference import resolve_device, resolve_precision
from atrous.models import save_weights
from atrous.recipe import Recipe, compute_changed_keys, format_recipe, load_recipe
from atrous.report.curves import save_loss_curves
from atrous.run import RunFolder
from atrous.training.checkpoint import load_newest_checkpoint, save_checkpoint
from atrous.training.learner import Learner, NonFiniteLossError, build_segmenter
from atrous.training.log import RunLog
from atrous.training.plan import Plan, Speed, compute_plan
from atrous.training.schedules import compute_lr
from atrous.training.stopping import StopRequest

Listener = Callable[[dict[str, Any]], None]
"""Hears each record of the log as it is written, and what else a person would want to see."""


@dataclass(frozen=True)
class TrainingResult:
    """How a session ended.

    Attributes:
        run: The run folder.
        step, total_steps: Steps finished, and steps of the whole run.
        reason: `finished`, `stop-after`, `SIGINT` or `SIGTERM`.
        best_miou: Of the best validation so far, None before the first.
    """

    run: Path
    step: int
    total_steps: int
    reason: str
    best_miou: float | None


def train(
    recipe: Recipe | str | Path,
    out: str | Path,
    *,
    stop_after: str | None = None,
    listener: Listener | None = None,
) -> TrainingResult:
    """Train by a recipe into a run folder, or go on with the run that is in it.

    A run that was stopped or killed goes on from its last checkpoint and ends with the same
    weights, losses and scores as if it had never been interrupted, bit for bit on a CPU.

    Args:
        recipe: A `Recipe`, or the path of a TOML file.
        out: The run folder; made if it is not there.
        stop_after: Budget of this session, such as `3h50m`; the run goes on next time.
        listener: Called with every record of the log, and with progress and warnings.

    Raises:
        ConfigError: The recipe cannot be used, or is not the one that the run began with.
        DataError: The pictures cannot be used, or are not those that the run began with.
        CheckpointError: No checkpoint of the run is whole, or one cannot be saved.
        TrainingError: The loss is no longer a finite number.

    Example:
        >>> from atrous import train
        >>> result = train("recipes/shapes.toml", "runs/shapes", stop_after="10min")
        >>> print(result.step, "of", result.total_steps, "steps,", result.best_miou)
    """
    recipe = recipe if isinstance(recipe, Recipe) else load_recipe(Path(recipe))
    budget = None if stop_after is None else parse_duration(stop_after)
    run = RunFolder(Path(out))
    listener = listener or (lambda record: None)
    recipe = _settle_recipe(recipe, run)
    train_set, val_set = (
        open_dataset(
            recipe.data.root, split, format=recipe.data.format, ignore_index=recipe.data.ignore_index
        )
        for split in (recipe.data.train_split, recipe.data.val_split)
    )
    with torch.device("meta"):
        build_segmenter(recipe, train_set.classes)  # refuses options before anything is written
    with _lock(run):
        if run.plan.exists():
            plan = Plan.load(run.plan)
            plan.check_data(train_set, val_set)
        else:
            plan = _make_plan(recipe, train_set, val_set, listener)
        learner = Learner(recipe, train_set.classes, plan.class_weights)
        if not run.plan.exists():
            write_atomically(run.recipe, lambda file: file.write(format_recipe(recipe).encode()))
            plan.save(run.plan)
        listener({"kind": "plan", "plan": plan, "recipe": recipe, "loaded": learner.loaded})
        return _Loop(recipe, run, plan, learner, train_set, val_set, listener).run_session(budget)


class _Loop:
    """One session of one run."""

    def __init__(
        self,
        recipe: Recipe,
        run: RunFolder,
        plan: Plan,
        learner: Learner,
        train_set: SegmentationDataset,
        val_set: SegmentationDataset,
        listener: Listener,
    ) -> None:
        self.recipe, self.run, self.plan, self.listener = recipe, run, plan, listener
        self.learner, self.train_set, self.val_set = learner, train_set, val_set
        self.save_every = parse_duration(recipe.train.save_every)
        self.step = 0
        self.validated_step = 0
        self.best_miou: float | None = None
        self.log_bytes = 0
        self._restore()
        self.saved_step = self.step
        self.saved_s = time.monotonic()

    def run_session(self, budget: Duration | None) -> TrainingResult:
        plan = self.plan
        self.stop = StopRequest(budget, steps_per_epoch=plan.steps_per_epoch, first_step=self.step)
        with self.stop, RunLog(self.run.log, num_bytes=self.log_bytes) as self.log:
            self._record("session", event="start", step=self.step, **_describe_machine())
            self._warn_of_batch_norm()
            try:
                reason = self._run_steps(self._load_batches())
            except BaseException as error:
                self._record("session", event="end", step=self.step, reason=type(error).__name__)
                raise
            if reason == "finished":
                card = replace(self.learner.card, training={"step": self.step})
                save_weights(self.run.last, self.learner.validated_model, card)
            self._record("session", event="end", step=self.step, reason=reason)
        save_loss_curves(self.run.path)
        return TrainingResult(self.run.path, self.step, plan.total_steps, reason, self.best_miou)

    def _run_steps(self, batches: Iterator[Batch]) -> str:
        """Validate, save and step until the run or the session is over; return why."""
        while True:
            validated = self._is_validation_due() and self._validate()
            finished = self.step == self.plan.total_steps and not self._is_validation_due()
            stopping = finished or self.stop.is_due(self.step)
            if validated or stopping or self._is_saving_due():
                self._save()
            if stopping:
                return "finished" if finished else self.stop.reason or ""
            self._step(batches)

    def _step(self, batches: Iterator[Batch]) -> None:
        settings, plan = self.recipe.train, self.plan
        lr = compute_lr(
            self.step,
            peak_lr=settings.lr,
            total_steps=plan.total_steps,
            schedule=settings.schedule,
            warmup_steps=plan.warmup_steps,
            step_at=plan.step_at,
        )
        started_s = time.perf_counter()
        try:
            loss, grad_norm = self.learner.update(batches, step=self.step, lr=lr)
        except NonFiniteLossError as error:
            raise self._explain_non_finite(error) from None
        self.step += 1
        step_s = round(time.perf_counter() - started_s, 4)
        epoch = self.step / plan.steps_per_epoch
        self._record(
            "train",
            step=self.step,
            epoch=round(epoch, 4),
            loss=loss,
            lr=lr,
            grad_norm=grad_norm,
            step_s=step_s,
        )

    def _is_validation_due(self) -> bool:
        due = self.step % self.plan.validate_steps == 0 or self.step == self.plan.total_steps
        return due and self.validated_step < self.step

    def _validate(self) -> bool:
        """Score the validation split; give up, to do it in the next session, if asked to stop."""

        num_done = 0

        def on_image(name: str, counts: CountArray) -> None:
            nonlocal num_done
            num_done += 1
            self.listener({"kind": "validating", "done": num_done, "total": len(self.val_set)})
            if self.stop.is_due(0):
                raise _StoppedError

        try:
            evaluation = evaluate_model(
                self.learner.validated_model,
                self.val_set,
                precision=self.recipe.train.precision,
                workers=self.recipe.train.workers,
                criterion=self.learner.criterion,
                on_image=on_image,
            )
        except _StoppedError:
            return False
        scores = compute_scores(evaluation.counts, self.val_set.classes)
        miou = scores.miou
        self.validated_step = self.step
        if self.best_miou is None or miou > self.best_miou:
            self.best_miou = miou
            training = {"step": self.step, "miou": miou, "split": self.val_set.split}
            card = replace(self.learner.card, training=training)
            save_weights(self.run.best, self.learner.validated_model, card)
        epoch = round(self.step / self.plan.steps_per_epoch, 4)
        self._record(
            "val",
            step=self.step,
            epoch=epoch,
            loss=evaluation.loss,
            miou=miou,
            pixel_accuracy=scores.pixel_accuracy,
            best_miou=self.best_miou,
            val_s=round(evaluation.seconds, 2),
        )
        return True

    def _is_saving_due(self) -> bool:
        if self.save_every.unit == "s":
            return time.monotonic() - self.saved_s >= self.save_every.amount
        every = self.save_every.compute_steps(
            steps_per_epoch=self.plan.steps_per_epoch, step_s=None
        )
        return self.step - self.saved_step >= every

    def _save(self) -> None:
        if self.step == self.saved_step:  # a whole checkpoint is never written over
            return
        state = {
            "learner": self.learner.state_dict(),
            "step": self.step,
            "validated_step": self.validated_step,
            "best_miou": self.best_miou,
            "log_bytes": self.log.sync(),
        }
        keep = self.recipe.train.keep_checkpoints
        save_checkpoint(self.run.checkpoints, self.step, state, keep=keep)
        self.saved_step, self.saved_s = self.step, time.monotonic()

    def _restore(self) -> None:
        newest = load_newest_checkpoint(self.run.checkpoints, warn=self._warn)
        if newest is None:
            return
        path, state = newest
        self.learner.load_state_dict(state["learner"])
        self.step, self.validated_step = state["step"], state["validated_step"]
        self.best_miou, self.log_bytes = state["best_miou"], state["log_bytes"]
        self.listener({"kind": "resumed", "step": self.step, "checkpoint": str(path)})

    def _load_batches(self) -> Iterator[Batch]:
        settings = self.recipe.train
        loader = build_train_loader(
            self.train_set,
            build_train_transform(self.recipe),
            batch_size=settings.batch_size,
            seed=settings.seed,
            start_batch=self.step * settings.accumulate,
            num_batches=(self.plan.total_steps - self.step) * settings.accumulate,
            workers=settings.workers,
        )
        return iter(loader)

    def _record(self, kind: str, **values: Any) -> None:
        record = {"kind": kind, **values}
        self.log.write(record)
        self.listener(record)

    def _warn(self, message: str) -> None:
        self.listener({"kind": "warning", "message": message})

    def _warn_of_batch_norm(self) -> None:
        if self.learner.has_small_batch_norm:
            self._warn(
                f"Batch norm learns from {self.recipe.train.batch_size} pictures at a time; below "
                "8 its statistics are noise (arXiv:1706.05587, table 9: batch 4 costs 12.8 points "
                "of mIoU against 16). Accumulating does not help it. What does: a larger "
                "--batch-size at a smaller crop, --set model.freeze_norm=true with pretrained "
                "weights, or --set model.norm=group."
            )

    def _explain_non_finite(self, error: NonFiniteLossError) -> TrainingError:
        folder = self.run.path / "failed"
        path = save_checkpoint(folder, self.step, {"learner": self.learner.state_dict()}, keep=1)
        batch = {"step": self.step, "pictures": error.names, "what": str(error)}
        (path / "batch.json").write_text(json.dumps(batch, indent=2), encoding="utf-8")
        return TrainingError(
            f"Training stopped before step {self.step + 1}, because the loss is not finite "
            f"({error}). The pictures of the batch and the state before it are in {path}. Look at "
            "the pictures and masks first; then try a smaller --lr, --set train.clip_norm=1, a "
            "longer --set train.warmup=…, or --set train.precision=32, in a new run folder."
        )


class _StoppedError(Exception):
    pass


def build_train_transform(recipe: Recipe) -> TrainTransform:
    """Build the augmentation of a recipe."""
    data = recipe.data
    return TrainTransform(
        size_hw=data.size_hw,
        crop_hw=None if data.crop is None else (data.crop, data.crop),
        scale=data.scale,
        flip=data.flip,
        brightness=data.brightness,
        contrast=data.contrast,
        saturation=data.saturation,
        hue=data.hue,
    )


def _settle_recipe(recipe: Recipe, run: RunFolder) -> Recipe:
    """Replace `auto` by what it means here, or hold the recipe against the run's own."""
    device = resolve_device(recipe.train.device)
    begun = load_recipe(run.recipe) if run.recipe.exists() else None
    if recipe.train.precision == "auto":
        precision = begun.train.precision if begun else resolve_precision("auto", device)
        recipe = recipe.model_copy(
            update={"train": recipe.train.model_copy(update={"precision": precision})}
        )
    if begun and (changed := compute_changed_keys(begun, recipe)):
        raise ConfigError(
            f"The run in {run.path} began with another recipe; changed: {'; '.join(changed)}. "
            "Going on would mix two experiments: start the same command as before, or give "
            "another --out."
        )
    return recipe


def _make_plan(
    recipe: Recipe, train_set: SegmentationDataset, val_set: SegmentationDataset, listener: Listener
) -> Plan:
    def on_progress(num_done: int, total: int) -> None:
        listener({"kind": "checking", "done": num_done, "total": total})

    statistics = compute_mask_statistics(train_set, on_progress)
    compute_mask_statistics(val_set, on_progress)

    def measure(class_weights: list[float] | None) -> Speed:
        listener({"kind": "measuring"})
        return _measure_speed(Learner(recipe, train_set.classes, class_weights), recipe, train_set)

    return compute_plan(recipe, train_set, val_set, statistics, measure)


def _measure_speed(learner: Learner, recipe: Recipe, train_set: SegmentationDataset) -> Speed:
    """Time steps and evaluated pictures of a learner that is thrown away."""
    settings = recipe.train
    max_steps, enough_s = 40, 12.0
    batches = iter(
        build_train_loader(
            train_set,
            build_train_transform(recipe),
            batch_size=settings.batch_size,
            seed=settings.seed,
            start_batch=0,
            num_batches=(max_steps + 2) * settings.accumulate,
            workers=settings.workers,
        )
    )
    for step in range(2):
        learner.update(batches, step=step, lr=0.0)
    started_s = time.perf_counter()
    for step in range(1, max_steps + 1):
        learner.update(batches, step=step, lr=0.0)
        elapsed_s = time.perf_counter() - started_s
        if elapsed_s > enough_s:
            break
    step_s = elapsed_s / step
    image_times_s: list[float] = []

    def on_image(name: str, counts: CountArray) -> None:
        image_times_s.append(time.perf_counter())
        if len(image_times_s) >= 2 and image_times_s[-1] - image_times_s[0] > enough_s / 3:
            raise _StoppedError

    with suppress(_StoppedError):
        evaluate_model(
            learner.validated_model,
            train_set,
            precision=settings.precision,
            workers=settings.workers,
            criterion=learner.criterion,
            on_image=on_image,
        )
    image_s = (image_times_s[-1] - image_times_s[0]) / max(1, len(image_times_s) - 1)
    return Speed(step_s=step_s, image_s=image_s)


@contextmanager
def _lock(run: RunFolder) -> Iterator[None]:
    """Keep a second training out of the folder; the lock goes with the process, however it ends."""
    path = run.path / ".lock"
    try:
        run.path.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT)
    except OSError as error:
        raise CheckpointError(
            f"The run folder {run.path} cannot be written: {error}. Give another --out."
        ) from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise ConfigError(
            f"Another training is writing to {run.path}. Wait for it, stop it, or give "
            "another --out."
        ) from None
    finally:
        if not run.recipe.exists():  # nothing came of it: leave nothing behind
            path.unlink(missing_ok=True)
            with suppress(OSError):
                run.path.rmdir()
        os.close(descriptor)


def _describe_machine() -> dict[str, Any]:
    return {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "atrous": atrous.__version__,
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "machine": platform.platform(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }
