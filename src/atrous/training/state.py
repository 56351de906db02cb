"""The state of a run in training, its checkpoints, and the check of its frozen part."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from atrous.data import SegmentationDataset
from atrous.errors import TrainingError
from atrous.models.fitting import group_names
from atrous.recipe import Recipe
from atrous.run import RunFolder
from atrous.training.checkpoint import load_newest_checkpoint, save_checkpoint
from atrous.training.learner import Learner
from atrous.training.plan import Plan

_SAVED = ("step", "validated_step", "best_miou", "log_bytes")


@dataclass
class TrainingState:
    """Everything that training reads and changes.

    Attributes:
        validated_step: Step of the last validation.
        best_miou: mIoU of the best validation so far, or None.
        log_bytes: Length of the log in bytes when the state was saved.
        checked_step: Step at which the frozen part was last checked.
    """

    recipe: Recipe
    run: RunFolder
    plan: Plan
    learner: Learner
    train_set: SegmentationDataset
    val_set: SegmentationDataset
    step: int = 0
    validated_step: int = 0
    best_miou: float | None = None
    log_bytes: int = 0
    checked_step: int = 0

    def restore(self, *, warn: Callable[[str], None]) -> Path | None:
        """Load the newest intact checkpoint of the run and return its path, or None without one.

        Raises:
            CheckpointError: All checkpoints are damaged.
            TrainingError: The frozen part differs from the one the run started with.
        """
        newest = load_newest_checkpoint(self.run.checkpoints, warn=warn)
        path, source = None, f"the initial weights, {self.recipe.model.init}"
        if newest is not None:
            path, saved = newest
            source = str(path)
            self.learner.load_state_dict(saved["learner"])
            for name in _SAVED:
                setattr(self, name, saved[name])
        self.checked_step = self.step
        frozen = self.learner.frozen
        if frozen is not None and frozen.seal(self.learner.model) != self.plan.frozen_sha256:
            raise TrainingError(
                f"The frozen part in {source} is not the one the run started with, whose SHA-256 "
                f"in {self.run.plan} is {self.plan.frozen_sha256}. Restore the weights, plan.json "
                "and the checkpoints, or start again in a new run folder."
            )
        return path

    def save(self) -> None:
        """Write a checkpoint."""
        values = {name: getattr(self, name) for name in _SAVED}
        save_checkpoint(
            self.run.checkpoints,
            self.step,
            {"learner": self.learner.state_dict(), **values},
            keep=self.recipe.train.keep_checkpoints,
        )

    def check_frozen(self) -> None:
        """Raise a TrainingError if the frozen part has changed; checked once per step at most."""
        frozen = self.learner.frozen
        if frozen is None or self.checked_step == self.step:
            return
        models = (self.learner.model, self.learner.validated_model)
        changed = [name for model in dict.fromkeys(models) for name in frozen.find_changes(model)]
        if changed:
            raise TrainingError(
                f"The frozen part changed between step {self.checked_step} and {self.step}: "
                f"{', '.join(group_names(dict.fromkeys(changed)))} no longer have their initial "
                "SHA-256. The changed weights were not saved; earlier checkpoints are intact. If "
                "you changed the training code, check that it does not write to frozen weights or "
                "batch-norm statistics. Otherwise this is a bug of atrous or a memory fault."
            )
        self.checked_step = self.step
