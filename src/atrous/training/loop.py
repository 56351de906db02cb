"""The training loop: validate, save a checkpoint, do a step."""

import json
import platform
import shutil
import time
from collections.abc import Generator, Iterator
from contextlib import closing, nullcontext, suppress
from dataclasses import replace
from datetime import UTC, datetime
from functools import reduce
from importlib.metadata import version
from operator import add
from pathlib import Path
from typing import Any

import torch

from atrous.data import Batch
from atrous.durations import parse_duration
from atrous.errors import TrainingError
from atrous.evaluation.metrics import compute_scores
from atrous.models import save_weights
from atrous.training.batches import list_batch_images, load_batches
from atrous.training.checkpoint import save_checkpoint
from atrous.training.features import FeatureBatch, FeatureCache
from atrous.training.learner import NonFiniteLossError, StepResult
from atrous.training.log import Listener, RunLog, build_tensorboard_listener, note
from atrous.training.schedules import compute_lr
from atrous.training.state import TrainingState
from atrous.training.stopping import StopRequest


class TrainingLoop:
    """One session of a run, which changes its state."""

    def __init__(self, state: TrainingState, stop: StopRequest, listener: Listener) -> None:
        self.state, self.stop, self.listener = state, stop, listener
        self.save_every = parse_duration(state.recipe.train.save_every)
        self.listeners = [listener]
        self.world = state.learner.world
        if state.recipe.train.tensorboard and self.world.is_main:
            folder = state.run.path / "tensorboard"
            self.listeners.append(build_tensorboard_listener(folder, state.step))
        self.first_step = state.step
        self.saved = (state.step, state.validated_step)
        self.saved_s = time.monotonic()
        # Number, learning rate and result of a step that the device may still compute.
        self.unread: tuple[int, float, StepResult] | None = None
        self.read_s = 0.0

    def run_session(self, features: FeatureCache | None = None) -> str:
        """Train until the run finishes, the session budget is spent or a stop signal arrives.

        Returns:
            `finished`, `stop-after`, `SIGINT` or `SIGTERM`.
        """
        state = self.state
        batches: Generator[Batch] | Generator[FeatureBatch]
        first_step, num_steps = state.step, state.plan.total_steps - state.step
        if features is None:
            batches = load_batches(
                state.recipe,
                state.train_set,
                first_step=first_step,
                num_steps=num_steps,
                world=self.world,
                card=state.learner.card,
            )
        else:
            batches = features.load_batches(first_step=first_step, num_steps=num_steps)
        with (
            closing(batches),
            RunLog(state.run.log, state.log_bytes)
            if self.world.is_main
            else nullcontext() as self.log,
        ):
            self._record("session", event="start", step=state.step, **_describe_machine())
            self._warn_of_small_batch_norm()
            try:
                reason = self._run_steps(batches)
            except BaseException as error:
                with suppress(Exception):  # a full disk must not hide the error itself
                    reason = type(error).__name__
                    self._record("session", event="end", step=state.step, reason=reason)
                raise
            if reason == "finished":
                self._save_weights(state.run.last, {"step": state.step})
            self._record("session", event="end", step=state.step, reason=reason)
        return reason

    def _run_steps(self, batches: Iterator[Batch | FeatureBatch]) -> str:
        state = self.state
        while True:
            validated = self._is_validation_due() and self._validate()
            finished = state.step == state.plan.total_steps and not self._is_validation_due()
            is_due = self.stop.is_due(state.step - self.first_step, state.plan.steps_per_epoch)
            stopping = finished or bool(self.world.add(torch.tensor(int(is_due))))
            if validated or stopping or self._is_saving_due():
                self._save()
            if stopping:
                return "finished" if finished else self.stop.reason or "another process"
            self._step(batches)

    def _step(self, batches: Iterator[Batch | FeatureBatch]) -> None:
        state, settings, plan = self.state, self.state.recipe.train, self.state.plan
        lr = compute_lr(
            state.step,
            peak_lr=settings.lr,
            total_steps=plan.total_steps,
            schedule=settings.schedule,
            warmup_steps=plan.warmup_steps,
            step_at=plan.step_at,
        )
        if self.unread is None:
            self.read_s = time.perf_counter()
        result = state.learner.update(batches, step=state.step, lr=lr)
        self._read_step()
        state.step += 1
        self.unread = state.step, lr, result
        if not state.learner.is_asynchronous:
            self._read_step()

    def _read_step(self) -> None:
        """Log the last step, once it has been computed; a GPU is busy with the next one then."""
        if self.unread is None:
            return
        (step, lr, result), self.unread = self.unread, None
        try:
            loss, grad_norm = result.read()
        except NonFiniteLossError as error:
            raise self._explain_non_finite(error, step) from None
        step_s = round(time.perf_counter() - self.read_s, 4)
        self.read_s = time.perf_counter()
        numbers = {"loss": loss, "lr": lr, "grad_norm": grad_norm, "step_s": step_s}
        self._record("train", **self._position(step), **numbers)

    def _position(self, step: int) -> dict[str, float]:
        return {"step": step, "epoch": round(step / self.state.plan.steps_per_epoch, 4)}

    def _is_validation_due(self) -> bool:
        state, plan = self.state, self.state.plan
        due = state.step % plan.validate_steps == 0 or state.step == plan.total_steps
        return due and state.validated_step < state.step

    def _validate(self) -> bool:
        """Score the validation split; return False if a signal interrupts the validation."""
        self._read_step()
        state = self.state
        state.check_frozen()

        def progress(done: int, total: int) -> None:
            self.listener({"kind": "validating", "done": done, "total": total})
            if self.stop.is_signalled:
                raise _StoppedError

        try:
            part = state.learner.validate(state.val_set, progress)
        except _StoppedError:
            part = None
        parts = [part for part in self.world.gather(part) if part is not None]
        if len(parts) < self.world.size:
            return False
        validation = reduce(add, parts)
        scores = compute_scores(validation.counts, state.val_set.classes)
        miou = scores.miou
        state.validated_step = state.step
        if state.best_miou is None or miou > state.best_miou:
            state.best_miou = miou
            training = {"step": state.step, "miou": miou, "split": state.val_set.split}
            self._save_weights(state.run.best, training)
        self._record(
            "val",
            **self._position(state.step),
            loss=validation.loss,
            miou=miou,
            pixel_accuracy=scores.pixel_accuracy,
            best_miou=state.best_miou,
            val_s=round(validation.seconds, 2),
        )
        return True

    def _save_weights(self, path: Path, training: dict[str, Any]) -> None:
        if not self.world.is_main:
            return
        learner = self.state.learner
        save_weights(path, learner.validated_model, replace(learner.card, training=training))

    def _is_saving_due(self) -> bool:
        return self.save_every.is_over(
            num_steps=self.state.step - self.saved[0],
            seconds=time.monotonic() - self.saved_s,
            steps_per_epoch=self.state.plan.steps_per_epoch,
        )

    def _save(self) -> None:
        self._read_step()
        state = self.state
        state.check_frozen()
        if self.log is not None and self.saved != (state.step, state.validated_step):
            state.log_bytes = self.log.sync()
            state.save()
            self.saved, self.saved_s = (state.step, state.validated_step), time.monotonic()

    def _record(self, kind: str, **values: Any) -> None:
        if self.log is None:
            return
        record = {"kind": kind, **values}
        self.log.write(record)
        for listener in self.listeners:
            listener(record)

    def _warn_of_small_batch_norm(self) -> None:
        if self.state.learner.has_small_batch_norm:
            note(
                self.listener,
                f"Batch norm is trained at batch size {self.state.recipe.train.batch_size}. "
                "Below 8, its statistics are noisy (arXiv:1706.05587, table 9: batch size 4 loses "
                "12.8 points of mIoU against 16), and accumulating batches does not help. Use a "
                "larger --batch-size at a smaller crop, --set model.freeze_norm=true with "
                "pretrained weights, or --set model.norm=group.",
                kind="warning",
            )

    def _explain_non_finite(self, error: NonFiniteLossError, step: int) -> TrainingError:
        state, folder = self.state, self.state.run.path / "failed"
        if self.world.is_main:
            shutil.rmtree(folder, ignore_errors=True)
            saved = {"learner": state.learner.state_dict()}
            path = save_checkpoint(folder, step - 1, saved, keep=1)
            images = list_batch_images(state.recipe.train, state.train_set, step - 1)
            batch = {"step": step - 1, "images": list(map(str, images)), "what": str(error)}
            (path / "batch.json").write_text(json.dumps(batch, indent=2), encoding="utf-8")
        return TrainingError(
            f"Training stopped before step {step}, because the loss is not finite ({error}). The "
            f"file names of the batch and the weights before the step are in {folder}. Check "
            "these images and their masks first; then try a smaller --lr, "
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
