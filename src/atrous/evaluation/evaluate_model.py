"""One pass of a model over a split: counts at the masks' own resolution."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from atrous.data import SegmentationDataset, build_eval_loader
from atrous.devices import Precision
from atrous.engines import Engine, TorchEngine, Views
from atrous.engines.logits import compute_mask
from atrous.errors import DataError, WeightsError
from atrous.evaluation.counts import CountArray, Counts
from atrous.models import ModelCard, Segmenter

Criterion = Callable[[Tensor, Tensor], Tensor]
"""Maps logits (1, classes, H, W) and an int64 mask (1, H, W) to a mean loss."""


@dataclass(frozen=True)
class ImageResult:
    """What a pass found in one picture.

    Attributes:
        name: File stem.
        logits: float32 (classes, H, W), on the model's device.
        prediction: uint8 (H, W), the likeliest classes.
        mask: uint8 (H, W), the true classes, void 255.
        counts: int64 (classes, 3), as `Counts.update` returns them.
    """

    name: str
    logits: Tensor
    prediction: Tensor
    mask: Tensor
    counts: CountArray


OnImage = Callable[[ImageResult], object]


@dataclass(frozen=True)
class Evaluation:
    """What one pass over a split gave.

    Attributes:
        counts: Pixels by true and predicted class.
        loss: Mean of the criterion over labelled pixels; None without criterion.
        seconds: Time of the pass, reading included.
    """

    counts: Counts
    loss: float | None
    seconds: float


def evaluate_model(
    model: Segmenter,
    dataset: SegmentationDataset,
    *,
    views: Views = Views(),  # noqa: B008 (immutable)
    precision: Precision = "32",
    workers: int = 0,
    criterion: Criterion | None = None,
    on_image: OnImage | None = None,
    rank: int = 0,
    world_size: int = 1,
) -> Evaluation:
    """Count a model's hits and misses at the masks' own resolution.

    Memory does not grow with the number of pictures. The model is evaluated in evaluation mode
    and left in the mode it was in.

    Args:
        model: A model with a card, on the device to use.
        dataset: One split; as many classes as the model.
        views: Scales, mirror images and windows to look through.
        precision: `32`, `bf16` or `auto`.
        workers: Processes that read ahead.
        criterion: Loss to average over the pictures, weighted by their labelled pixels.
        on_image: Called after each picture; what it raises ends the evaluation.
        rank: This process takes pictures rank, rank + world_size, … The counts of all add up.
        world_size: Processes that share the split.

    Raises:
        DataError: The classes do not fit, or a file cannot be used.
        WeightsError: The model's logits are not finite.
    """
    engine = TorchEngine(model, views=views, precision=precision)
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        return evaluate_engine(
            engine,
            dataset,
            workers=workers,
            criterion=criterion,
            on_image=on_image,
            rank=rank,
            world_size=world_size,
        )
    finally:
        for module, training in modes:
            module.training = training


def evaluate_engine(
    engine: Engine,
    dataset: SegmentationDataset,
    *,
    workers: int = 0,
    criterion: Criterion | None = None,
    on_image: OnImage | None = None,
    rank: int = 0,
    world_size: int = 1,
) -> Evaluation:
    """Count the hits and misses of whatever runs a model; arguments as in `evaluate_model`.

    Raises:
        ConfigError: The engine gives no logits.
        DataError: The classes do not fit, or a file cannot be used.
        WeightsError: The logits are not finite.
    """
    check_classes(engine.card, dataset)
    counts, loss_sum, num_labelled = Counts(len(dataset.classes)), 0.0, 0
    start_s = time.perf_counter()
    samples = build_eval_loader(dataset, workers=workers, rank=rank, world_size=world_size)
    for sample in samples:
        logits = engine.compute_logits(sample.image)
        check_finite(logits, sample.name)
        prediction = compute_mask(logits)
        image_counts = counts.update(prediction, sample.mask)
        # Each labelled pixel is either a hit or a miss of its own class.
        num_pixels = int(image_counts[:, [0, 2]].sum())
        if criterion is not None and num_pixels:
            loss_sum += num_pixels * _compute_loss(criterion, logits, sample.mask)
            num_labelled += num_pixels
        if on_image is not None:
            on_image(ImageResult(sample.name, logits, prediction, sample.mask, image_counts))
    loss = None if criterion is None else loss_sum / max(num_labelled, 1)
    return Evaluation(counts, loss, time.perf_counter() - start_s)


def check_classes(card: ModelCard, dataset: SegmentationDataset) -> None:
    """Raise DataError unless a model and a data set have the same classes.

    Names are compared unless one of the two only numbers its classes.
    """
    ours, theirs = card.classes.names, dataset.classes.names
    if len(ours) != len(theirs):
        raise DataError(
            f"The data set {dataset.root} has {len(theirs)} classes ({', '.join(theirs)}), but "
            f"the model {card.name} was trained for {len(ours)}. Give the data that it was "
            "trained for, or other weights."
        )
    numbers = tuple(str(index) for index in range(len(theirs)))
    if ours != theirs and numbers not in (ours, theirs):
        index = next(i for i, pair in enumerate(zip(ours, theirs, strict=True)) if len({*pair}) > 1)
        raise DataError(
            f"Class {index} is '{theirs[index]}' in the data set {dataset.root}, but "
            f"'{ours[index]}' for the model. Scores would compare different things: give the data "
            "that the model was trained for, or mend names and order in its classes.toml."
        )


def check_finite(logits: Tensor, name: str) -> None:
    """Raise WeightsError where logits hold NaN or infinity: their argmax would mean nothing."""
    if not math.isfinite(logits.sum().item()):
        raise WeightsError(
            f"The model's logits for picture {name} are not finite numbers, so nothing can be "
            "scored. The weights are damaged or the training diverged: take an earlier "
            "checkpoint, or try --precision 32."
        )


@torch.inference_mode()
def _compute_loss(criterion: Criterion, logits: Tensor, mask: Tensor) -> float:
    target = mask.as_subclass(Tensor).to(logits.device, torch.int64)
    return float(criterion(logits[None], target[None]))
