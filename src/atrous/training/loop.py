"""The training loop: validate, save, step, and stop anywhere."""

import json
import platform
import shutil
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, suppress
from dataclasses import replace
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

import torch

from atrous.data import Batch, SegmentationDataset
from atrous.durations import parse_duration
from atrous.errors import TrainingError
from atrous.evaluation import validate_model
from atrous.evaluation.metrics import compute_scores
from atrous.models import save_weights
from atrous.models.fitting import group_names
from atrous.recipe import Recipe
from atrous.run import RunFolder
from atrous.training.batches import load_batches
from atrous.training.checkpoint import load_newest_checkpoint, save_checkpoint
from atrous.training.features import FeatureBatch, FeatureCache
from atrous.training.learner import Learner, NonFiniteLossError
from atrous.training.log import RunLog
from atrous.training.plan import Plan
from atrous.training.schedules import compute_lr
from atrous.training.stopping import StopRequest
from atrous.training.tensorboard import build_tensorboard_listener

Batches = Iterator[Batch | FeatureBatch]

Listener = Callable[[dict[str, Any]], None]
"""Hears each record of the log as it is written, and what else a person would want to see."""


class TrainingLoop:
    """One session of one run."""

    def __init__(
        self,
        recipe: Recipe,
        run: RunFolder,
        plan: Plan,
        learner: Learner,
        train_set: SegmentationDataset,
        val_set: SegmentationDataset,
        stop: StopRequest,
        listener: Listener,
    ) -> None:
        self.recipe, self.run, self.plan = recipe, run, plan
        self.stop, self.listener = stop, listener
        self.learner, self.train_set, self.val_set = learner, train_set, val_set
        self.save_every = parse_duration(recipe.train.save_every)
        self.step = 0
        self.validated_step = 0
        self.best_miou: float | None = None
        self.log_bytes = 0
        self._restore()
        self.listeners = [listener]
        if recipe.train.tensorboard:
            self.listeners.append(build_tensorboard_listener(run.path / "tensorboard", self.step))
        self.first_step = self.step
        self.saved = (self.step, self.validated_step)
        self.saved_s = time.monotonic()

    def run_session(self, features: FeatureCache | None = None) -> str:
        """Train until the run, the budget or the patience of a person ends; return which.

        Args:
            features: What takes the place of the images, if it is kept.
        """
        batches: Generator[Batch] | Generator[FeatureBatch]
        num_steps = self.plan.total_steps - self.step
        if features is None:
            batches = load_batches(
                self.recipe, self.train_set, first_step=self.step, num_steps=num_steps
            )
        else:
            batches = features.load_batches(first_step=self.step, num_steps=num_steps)
        with closing(batches), RunLog(self.run.log, num_bytes=self.log_bytes) as self.log:
            self._record("session", event="start", step=self.step, **_describe_machine())
            self._warn_of_batch_norm()
            try:
                reason = self._run_steps(batches)
            except BaseException as error:
                with suppress(Exception):  # a full disk must not hide the error itself
                    reason = type(error).__name__
                    self._record("session", event="end", step=self.step, reason=reason)
                raise
            if reason == "finished":
                card = replace(self.learner.card, training={"step": self.step})
                save_weights(self.run.last, self.learner.validated_model, card)
            self._record("session", event="end", step=self.step, reason=reason)
        return reason

    def _run_steps(self, batches: Batches) -> str:
        """Validate, save and step until the run or the session is over; return why."""
        while True:
            validated = self._is_validation_due() and self._validate()
            finished = self.step == self.plan.total_steps and not self._is_validation_due()
            num_steps = self.step - self.first_step
            stopping = finished or self.stop.is_due(num_steps, self.plan.steps_per_epoch)
            if validated or stopping or self._is_saving_due():
                self._save()
            if stopping:
                return "finished" if finished else self.stop.reason or ""
            self._step(batches)

    def _step(self, batches: Batches) -> None:
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
        """Score the validation split; on a signal give up, and do it in the next session."""
        self._check_frozen()

        def progress(done: int, total: int) -> None:
            self.listener({"kind": "validating", "done": done, "total": total})
            if self.stop.is_signalled:
                raise _StoppedError

        try:
            validation = validate_model(
                self.learner.validated_model,
                self.val_set,
                precision=self.recipe.train.precision,
                workers=self.recipe.train.workers,
                criterion=self.learner.criterion,
                progress=progress,
            )
        except _StoppedError:
            return False
        scores = compute_scores(validation.counts, self.val_set.classes)
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
            loss=validation.loss,
            miou=miou,
            pixel_accuracy=scores.pixel_accuracy,
            best_miou=self.best_miou,
            val_s=round(validation.seconds, 2),
        )
        return True

    def _is_saving_due(self) -> bool:
        if self.save_every.unit == "s":
            return time.monotonic() - self.saved_s >= self.save_every.amount
        every = self.save_every.compute_steps(
            steps_per_epoch=self.plan.steps_per_epoch, step_s=None
        )
        return self.step - self.saved[0] >= every

    def _save(self) -> None:
        self._check_frozen()
        if self.saved == (self.step, self.validated_step):
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
        self.saved, self.saved_s = (self.step, self.validated_step), time.monotonic()

    def _restore(self) -> None:
        newest = load_newest_checkpoint(self.run.checkpoints, warn=self._warn)
        if newest is None:
            self._seal_frozen(f"The frozen part of the initial weights, {self.recipe.model.init},")
            return
        path, state = newest
        self.learner.load_state_dict(state["learner"])
        self.step, self.validated_step = state["step"], state["validated_step"]
        self.best_miou, self.log_bytes = state["best_miou"], state["log_bytes"]
        self._seal_frozen(f"The frozen part in {path}")
        self.listener({"kind": "resumed", "step": self.step, "checkpoint": str(path)})

    def _seal_frozen(self, what: str) -> None:
        """Refuse to go on with another frozen part than the run began with."""
        frozen, self.checked_step = self.learner.frozen, self.step
        if frozen is None or frozen.seal(self.learner.model) == self.plan.frozen_sha256:
            return
        raise TrainingError(
            f"{what} is not what the run began with: {self.run.plan} has the SHA-256 "
            f"{self.plan.frozen_sha256}. Bring back the weights, plan.json and the checkpoints as "
            "they were, or start again in a new run folder."
        )

    def _check_frozen(self) -> None:
        """Refuse to score or save weights of which the frozen part has changed."""
        frozen = self.learner.frozen
        if frozen is None or self.checked_step == self.step:
            return
        models = (self.learner.model, self.learner.validated_model)
        changed = [name for model in dict.fromkeys(models) for name in frozen.find_changes(model)]
        if changed:
            raise TrainingError(
                f"The frozen part changed between step {self.checked_step} and {self.step}: "
                f"{', '.join(group_names(dict.fromkeys(changed)))} no longer have the SHA-256 that "
                "they began with. Nothing of this was saved, and the checkpoints before it are "
                "good. If you changed the training code, keep it from writing to frozen weights "
                "and batch-norm statistics; if not, this is a bug of atrous or failing memory."
            )
        self.checked_step = self.step

    def _record(self, kind: str, **values: Any) -> None:
        record = {"kind": kind, **values}
        self.log.write(record)
        for listener in self.listeners:
            listener(record)

    def _warn(self, message: str) -> None:
        self.listener({"kind": "warning", "message": message})

    def _warn_of_batch_norm(self) -> None:
        if self.learner.has_small_batch_norm:
            self._warn(
                f"Batch norm learns from {self.recipe.train.batch_size} images at a time; below "
                "8 its statistics are noise (arXiv:1706.05587, table 9: batch 4 costs 12.8 points "
                "of mIoU against 16). Accumulating does not help it. What does: a larger "
                "--batch-size at a smaller crop, --set model.freeze_norm=true with pretrained "
                "weights, or --set model.norm=group (and SyncBN over several devices, where a run "
                "had them)."
            )

    def _explain_non_finite(self, error: NonFiniteLossError) -> TrainingError:
        folder = self.run.path / "failed"
        shutil.rmtree(folder, ignore_errors=True)
        path = save_checkpoint(folder, self.step, {"learner": self.learner.state_dict()}, keep=1)
        files = dict(zip(self.train_set.names, map(str, self.train_set.image_paths), strict=True))
        images = [files[name] for name in error.names]
        batch = {"step": self.step, "images": images, "what": str(error)}
        (path / "batch.json").write_text(json.dumps(batch, indent=2), encoding="utf-8")
        return TrainingError(
            f"Training stopped before step {self.step + 1}, because the loss is not finite "
            f"({error}). The batch's file names and the weights before the step are in {path}. "
            "Look at those images and their masks first; then try a smaller --lr, "
            "--set train.clip_norm=1, a longer --set train.warmup=…, or "
            "--set train.precision=32, in a new run folder."
        )


class _StoppedError(Exception):
    pass


def _describe_machine() -> dict[str, Any]:
    return {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "atrous": version("atrous"),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "machine": platform.platform(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }
