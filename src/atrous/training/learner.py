"""One network with all that changes while it learns, and one step of learning."""

import math
import os
from collections.abc import Iterator, Mapping
from copy import deepcopy
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import nn

from atrous.classes import Classes
from atrous.data import IMAGENET_MEAN, IMAGENET_STD, Batch, normalize
from atrous.errors import TrainingError
from atrous.inference import resolve_device, resolve_precision
from atrous.models import ModelCard, Segmenter, build_model
from atrous.models.weights import init_model_options, init_weights
from atrous.recipe import Recipe, TrainRecipe
from atrous.seeds import compute_seed
from atrous.training.losses import SegmentationLoss
from atrous.training.schedules import compute_ema_decay


class NonFiniteLossError(TrainingError):
    """The loss or its gradient became NaN or infinite; `names` are the batch's file stems."""

    def __init__(self, loss: float, grad_norm: float, names: list[str]) -> None:
        super().__init__(f"loss {loss}, gradient norm {grad_norm}")
        self.names = names


class Learner:
    """Network, optimizer and moving average; all randomness derives from (seed, step).

    Args:
        recipe: What to build.
        classes: Of the data; their number is the number of outputs.
        class_weights: Factor per class in the loss, or None.
        load_init: Whether to start from the recipe's initial weights; needless where a
            checkpoint is loaded next.
    """

    def __init__(
        self,
        recipe: Recipe,
        classes: Classes,
        class_weights: list[float] | None,
        *,
        load_init: bool = True,
    ) -> None:
        settings = recipe.train
        device = resolve_device(settings.device)
        precision = resolve_precision(settings.precision, device)
        if settings.deterministic:
            os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(settings.deterministic)
        self.fabric = Fabric(
            accelerator=device.type,
            devices=1 if device.index is None or device.type == "cpu" else [device.index],
            precision="bf16-mixed" if precision == "bf16" else "32-true",
        )
        self.settings = settings
        self.memory_format = (
            torch.channels_last if settings.channels_last else torch.contiguous_format
        )
        torch.manual_seed(settings.seed)
        self.model = build_segmenter(recipe, classes)
        self.loaded = init_weights(self.model, recipe.model.init if load_init else "none")
        self.freeze_norm = recipe.model.freeze_norm
        if self.freeze_norm:
            for norm in _batch_norms(self.model):
                norm.requires_grad_(False)
        self.model.to(device).to(memory_format=self.memory_format)
        self.average = deepcopy(self.model).requires_grad_(False) if settings.ema else None
        self.optimizer = build_optimizer(self.model, settings)
        self.criterion = SegmentationLoss(
            **recipe.loss.model_dump(exclude={"class_weights", "class_weight_power"}),
            class_weights=class_weights,
        ).to(device)
        self._wrapped: Any  # Fabric forwards our method names, which types cannot say
        self._wrapped, self._wrapped_optimizer = self.fabric.setup(self.model, self.optimizer)
        self._wrapped.mark_forward_method("compute_training_logits")

    @property
    def validated_model(self) -> Segmenter:
        """The weights that are validated and kept: the moving average if there is one."""
        return self.model if self.average is None else self.average

    @property
    def has_small_batch_norm(self) -> bool:
        """Whether batch norm learns its statistics from fewer than 8 pictures."""
        learns = any(True for _ in _batch_norms(self.model)) and not self.freeze_norm
        return learns and self.settings.batch_size < 8

    def update(self, batches: Iterator[Batch], *, step: int, lr: float) -> tuple[float, float]:
        """Do one optimizer step over `accumulate` batches and return loss and gradient norm.

        Args:
            batches: Where the next batches come from.
            step: Steps finished before this one.
            lr: Learning rate of this step.

        Raises:
            NonFiniteLossError: The weights are as they were before the step; batch-norm
                statistics have seen the batch.
        """
        self.model.train()
        if self.freeze_norm:
            for norm in _batch_norms(self.model):
                norm.eval()
        num_batches = self.settings.accumulate
        names: list[str] = []
        total = 0.0
        for part in range(num_batches):
            batch = next(batches)
            names += batch.names
            with self.fabric.no_backward_sync(self._wrapped, enabled=part + 1 < num_batches):
                total += self._accumulate(batch, compute_seed(self.settings.seed, step, part))
        grads = [p.grad for p in self.model.parameters() if p.grad is not None]
        grad_norm = torch.nn.utils.get_total_norm(grads, foreach=True)
        if not math.isfinite(total) or not math.isfinite(grad_norm.item()):
            self.optimizer.zero_grad(set_to_none=True)
            raise NonFiniteLossError(total, grad_norm.item(), names)
        if self.settings.clip_norm:
            torch.nn.utils.clip_grads_with_norm_(
                self.model.parameters(), self.settings.clip_norm, grad_norm
            )
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        self._wrapped_optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        if self.average is not None:
            _move_average(self.average, self.model, compute_ema_decay(step, self.settings.ema))
        return total, grad_norm.item()

    def _accumulate(self, batch: Batch, seed: int) -> float:
        card, device = self.card, self.fabric.device
        torch.manual_seed(seed)
        image = normalize(batch.image.to(device, non_blocking=True), card.mean, card.std)
        image = image.contiguous(memory_format=self.memory_format)
        mask = batch.mask.to(device, non_blocking=True).long()
        logits, auxiliary_logits = self._wrapped.compute_training_logits(image)
        loss = self.criterion(logits, mask, auxiliary_logits) / self.settings.accumulate
        self.fabric.backward(loss)
        return loss.item()

    @property
    def card(self) -> ModelCard:
        """What the weights files of this network say besides the weights."""
        assert self.model.card is not None
        return self.model.card

    def state_dict(self) -> dict[str, Any]:
        """Return all that `load_state_dict` needs to go on exactly."""
        return {
            "model": self.model.state_dict(),
            "average": None if self.average is None else self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over a state that `state_dict` returned."""
        self.model.load_state_dict(state["model"])
        if self.average is not None:
            self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])


def build_segmenter(recipe: Recipe, classes: Classes) -> Segmenter:
    """Build the network of a recipe, with the card that its weights files will carry."""
    name, options = recipe.model.name, recipe.model.build_options()
    implied = init_model_options(name, recipe.model.init, output_stride=recipe.model.output_stride)
    model = build_model(name, num_classes=len(classes), **{**implied, **options})
    model.card = ModelCard(
        name=model.name,
        options=model.options,
        classes=classes,
        mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
        size_hw=recipe.data.size_hw,
        training={},
    )
    return model


def build_optimizer(model: nn.Module, settings: TrainRecipe) -> torch.optim.Optimizer:
    """Build the optimizer; norms and biases are not decayed."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": settings.weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    match settings.optimizer:
        case "adam":
            return torch.optim.Adam(groups, lr=settings.lr)
        case "adamw":
            return torch.optim.AdamW(groups, lr=settings.lr)
        case "sgd":
            return torch.optim.SGD(groups, lr=settings.lr, momentum=settings.momentum)


def _batch_norms(model: nn.Module) -> Iterator[nn.Module]:
    return (module for module in model.modules() if isinstance(module, nn.BatchNorm2d))


@torch.no_grad()
def _move_average(average: nn.Module, model: nn.Module, decay: float) -> None:
    current = model.state_dict()
    for name, value in average.state_dict().items():
        if value.is_floating_point():
            value.lerp_(current[name], 1 - decay)
        else:
            value.copy_(current[name])
