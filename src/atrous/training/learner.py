"""The network in training, with its optimizer and moving average, and one training step."""

import math
import os
from collections.abc import Callable, Iterator, Mapping
from copy import deepcopy
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from atrous.bands import BandStatistics
from atrous.classes import Classes, ClassSelection
from atrous.data import Batch, SegmentationDataset
from atrous.devices import resolve_device, resolve_precision
from atrous.errors import ConfigError, TrainingError
from atrous.evaluation import validate_model
from atrous.evaluation.evaluator import Validation
from atrous.images import normalize
from atrous.models import ModelCard, Segmenter, build_model
from atrous.models.cut import Cut
from atrous.models.depthwise import speed_up_depthwise
from atrous.models.untrained_taps import zero_untrained_taps
from atrous.models.weights import init_model_options, init_weights
from atrous.recipe import Recipe
from atrous.seeds import compute_seed
from atrous.training.batches import count_workers
from atrous.training.distributed import World, synchronize_batch_norm
from atrous.training.features import FeatureBatch, uses_feature_cache
from atrous.training.freeze import FrozenPart
from atrous.training.losses import SegmentationLoss, Share
from atrous.training.optimizer import build_optimizer, update_average
from atrous.training.schedules import compute_ema_decay


class NonFiniteLossError(TrainingError):
    """The loss or its gradient is NaN or infinite."""


class StepResult(NamedTuple):
    """Loss of a step and norm of its gradient, each float () on the device."""

    loss: Tensor
    grad_norm: Tensor

    def read(self) -> tuple[float, float]:
        """Wait for the device, and return the numbers.

        Raises:
            NonFiniteLossError: One of them is not finite.
        """
        loss, grad_norm = self.loss.item(), self.grad_norm.item()
        if not (math.isfinite(loss) and math.isfinite(grad_norm)):
            raise NonFiniteLossError(f"loss {loss}, gradient norm {grad_norm}")
        return loss, grad_norm


class Learner:
    """Network, optimizer and moving average; all randomness derives from (seed, step).

    Args:
        class_weights: Factor per class in the loss, or None.
        load_init: Whether to load the recipe's initial weights; unnecessary before a checkpoint
            is loaded.
        bands: Ranges and statistics of the bands; None for 8-bit RGB.
        compile: Whether to compile the training step's network with torch.compile.

    Attributes:
        frozen: The frozen part, or None.
        untrained_taps: New atrous convolutions with taps that training never reaches; these taps
            start at zero.
        cut: The cut after the frozen part if its features are cached, or None.
    """

    def __init__(
        self,
        recipe: Recipe,
        classes: Classes,
        class_weights: list[float] | None,
        *,
        load_init: bool = True,
        world: World = World(),
        bands: BandStatistics | None = None,
        compile: bool = False,
    ) -> None:
        self.settings = settings = recipe.train
        self.world = world
        device = world.choose_device(resolve_device(settings.device))
        precision = resolve_precision(settings.precision, device)
        if settings.deterministic:
            os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(settings.deterministic)
        self.fabric = world.launch_fabric(device, precision)
        channels_last, contiguous = torch.channels_last, torch.contiguous_format
        self.memory_format = channels_last if settings.channels_last else contiguous
        torch.manual_seed(settings.seed)
        self.model = build_segmenter(recipe, classes, bands)
        self.loaded = init_weights(self.model, recipe.model.init if load_init else "none")
        keep = set(self.loaded.loaded) if self.loaded else set()
        self.untrained_taps = zero_untrained_taps(self.model, recipe.data.train_hw, keep=keep)
        if world.size > 1:
            synchronize_batch_norm(self.model, device)
        if device.type == "cpu":
            speed_up_depthwise(self.model)
        self.frozen_norms = _list_batch_norms(self.model) if recipe.model.freeze_norm else []
        for norm in self.frozen_norms:
            norm.requires_grad_(False)
        freeze = recipe.model.freeze
        self.frozen = None if freeze == "none" else FrozenPart(self.model, freeze)
        self.model.to(device).to(memory_format=self.memory_format)
        self.cut: Cut | None = None
        if uses_feature_cache(recipe) and world.size == 1:
            self.cut = Cut(self.model, before_classifier=freeze == "all-but-classifier")
        self.average = deepcopy(self.model).requires_grad_(False) if settings.ema else None
        self.optimizer = build_optimizer(self.model, settings)
        # Fused optimizers change no weight while `found_inf` is 1; torch.amp.GradScaler uses this.
        self._has_failed = torch.zeros((), device=device)
        vars(self.optimizer).update(grad_scale=None, found_inf=self._has_failed)
        self.criterion = SegmentationLoss(
            **recipe.loss.model_dump(exclude={"class_weights", "class_weight_power"}),
            class_weights=class_weights,
        ).to(device)
        self._wrapped: Any  # Fabric forwards our method names, which types cannot say
        self._wrapped, self._wrapped_optimizer = self.fabric.setup(self.model, self.optimizer)
        self._wrapped.mark_forward_method("compute_training_logits")
        self.compile = compile
        if compile:
            compiled = torch.compile(self.model.compute_training_logits, dynamic=False)
            self.model.compute_training_logits = compiled  # type: ignore[method-assign]

    @property
    def validated_model(self) -> Segmenter:
        """The model to validate and save: the moving average if there is one."""
        return self.model if self.average is None else self.average

    @property
    def is_asynchronous(self) -> bool:
        """Whether steps are computed on a device of their own, while Python runs ahead."""
        return self.fabric.device.type != "cpu"

    @property
    def has_small_batch_norm(self) -> bool:
        """Whether batch norm is trained on batches of fewer than 8 images."""
        learns = any(norm.weight.requires_grad for norm in _list_batch_norms(self.model))
        return learns and self.settings.batch_size < 8

    def update(
        self, batches: Iterator[Batch | FeatureBatch], *, step: int, lr: float
    ) -> StepResult:
        """Do one optimizer step over `accumulate` batches.

        Batches, also those of other processes, are weighted by their labelled pixels, so that the
        loss is that of one large batch. The step does not wait for the device. If the loss or its
        gradient is not finite, neither this step nor a later one changes the weights, but
        batch-norm statistics and the moving average include the batch.

        Args:
            step: Number of steps finished before this one.
        """
        self.model.train()
        for norm in self.frozen_norms:
            norm.eval()
        if self.frozen is not None:
            self.frozen.set_eval()
        parts = [next(batches) for _ in range(self.settings.accumulate)]
        shares = self.criterion.compute_shares([batch.mask for batch in parts], self.world)
        losses, first_part = [], self.world.rank * len(parts)
        for part, (batch, share) in enumerate(zip(parts, shares, strict=True)):
            seed = compute_seed(self.settings.seed, step, first_part + part)
            with self.fabric.no_backward_sync(self._wrapped, enabled=part + 1 < len(parts)):
                losses.append(self._accumulate(batch, share, seed))
        loss = self.world.add(torch.stack(losses).sum(dtype=torch.float64))
        grads = [p.grad for p in self.model.parameters() if p.grad is not None]
        grad_norm = torch.nn.utils.get_total_norm(grads, foreach=True)
        self._has_failed.masked_fill_(~(loss.isfinite() & grad_norm.isfinite()), 1.0)
        if self.settings.clip_norm:
            torch.nn.utils.clip_grads_with_norm_(
                self.model.parameters(), self.settings.clip_norm, grad_norm
            )
        for group in self.optimizer.param_groups:
            group["lr"] = lr * group.get("lr_factor", 1.0)
        self._wrapped_optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        if self.average is not None:
            decay = compute_ema_decay(step, self.settings.ema)
            frozen = self.frozen.names if self.frozen else ()
            update_average(self.average, self.model, decay, frozen)
        return StepResult(loss, grad_norm)

    def validate(
        self, dataset: SegmentationDataset, progress: Callable[[int, int], None]
    ) -> Validation:
        """Score this process's images of a split with `validated_model`."""
        return validate_model(
            self.validated_model,
            dataset,
            precision=self.settings.precision,
            workers=count_workers(self.settings, self.world),
            criterion=self.criterion,
            progress=progress,
            rank=self.world.rank,
            world_size=self.world.size,
        )

    def compute_features(self, image: Tensor) -> list[Tensor]:
        """Compute the inputs of the trained part, in evaluation mode and training precision.

        Shapes:
            image: uint8 (batch, 3, H, W), or float32 (batch, bands, H, W)
            returns: one float (batch, channels, height, width) per feature map
        """
        assert self.cut is not None
        self.model.eval()
        with torch.inference_mode(), self.fabric.autocast():
            return self.cut.compute_features(self._prepare(image))

    def _accumulate(self, batch: Batch | FeatureBatch, share: Share, seed: int) -> Tensor:
        torch.manual_seed(seed)
        mask = batch.mask.to(self.fabric.device, non_blocking=True).long()
        if isinstance(batch, FeatureBatch):
            assert self.cut is not None
            features = [self._move(feature) for feature in batch.features]
            with self.fabric.autocast():
                logits, auxiliary_logits = self.cut.compute_logits(features, mask), None
        else:
            image = self._prepare(batch.image)
            with self.fabric.autocast():  # Fabric itself does this only for `forward`
                logits, auxiliary_logits = self._compute_logits(image)
        loss = self.criterion(logits, mask, auxiliary_logits, share)
        self.fabric.backward(loss * self.world.size)  # gradients are averaged over the processes
        return loss.detach()

    def _compute_logits(self, image: Tensor) -> tuple[Tensor, Tensor | None]:
        if not self.compile:
            return self._wrapped.compute_training_logits(image, resize=False)
        from torch._dynamo.exc import TorchDynamoException

        try:
            return self._wrapped.compute_training_logits(image, resize=False)
        except TorchDynamoException as error:
            reason = str(error).strip().splitlines()[0]
            raise ConfigError(
                f"torch.compile cannot compile {self.model.name}: {reason} Install a C++ compiler, "
                "or use --set train.compile=off."
            ) from error

    def _prepare(self, image: Tensor) -> Tensor:
        moved = image.to(self.fabric.device, non_blocking=True)
        return self._move(normalize(moved, self.card.mean, self.card.std, self.card.ranges))

    def _move(self, tensor: Tensor) -> Tensor:
        moved = tensor.to(self.fabric.device, non_blocking=True)
        return moved.contiguous(memory_format=self.memory_format)

    @property
    def card(self) -> ModelCard:
        """Metadata of the weights files of this model."""
        assert self.model.card is not None
        return self.model.card

    def state_dict(self) -> dict[str, Any]:
        """Return everything that `load_state_dict` needs to resume exactly."""
        return {
            "model": self.model.state_dict(),
            "average": None if self.average is None else self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Load a state returned by `state_dict`."""
        for group in state["optimizer"]["param_groups"]:
            group["fused"] = True  # older checkpoints say None
        self.model.load_state_dict(state["model"])
        if self.average is not None:
            self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])


def build_segmenter(
    recipe: Recipe, classes: Classes, bands: BandStatistics | None = None
) -> Segmenter:
    """Build the model of a recipe, with the card of its weights files."""
    name, options = recipe.model.name, recipe.model.build_options()
    implied = init_model_options(name, recipe.model.init, output_stride=recipe.model.output_stride)
    if bands is not None:
        implied["in_channels"] = len(bands.ranges)
    model = build_model(name, num_classes=len(classes), **{**implied, **options})
    selection = recipe.data.class_selection
    model.card = ModelCard(
        name=model.name,
        options=model.options,
        classes=classes,
        mean=model.backbone.mean if bands is None else bands.mean,
        std=model.backbone.std if bands is None else bands.std,
        size_hw=recipe.data.size_hw,
        training={},
        long_side=recipe.data.long_side,
        selection=None if selection == ClassSelection() else selection,
        ranges=None if bands is None else bands.ranges,
    )
    return model


def _list_batch_norms(model: nn.Module) -> list[_BatchNorm]:
    return [module for module in model.modules() if isinstance(module, _BatchNorm)]
