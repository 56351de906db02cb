"""The evaluation pass: predictions of a split at the masks' own resolution, image by image."""

import time
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Literal, Self

import torch
from torch import Tensor

from atrous.data import Sample, SegmentationDataset, build_eval_loader
from atrous.devices import Precision, resolve_workers
from atrous.engines import TTA, Engine, TorchEngine
from atrous.engines.logits import check_finite, compute_mask
from atrous.errors import DataError, WeightsError
from atrous.evaluation.counts import Counts
from atrous.models import ModelCard, Segmenter

Criterion = Callable[[Tensor, Tensor], Tensor]
"""Maps logits (1, classes, H, W) and an int64 mask (1, H, W) to a mean loss."""

Progress = Callable[[int, int], object]
"""Called after each image with the number of images done and the total."""


@dataclass(frozen=True)
class ImageResult:
    """Prediction and ground truth of one image; `name` is its file stem.

    Shapes:
        logits: float32 (classes, H, W), on the engine's device
        prediction, mask: uint8 (H, W), class indices; 255 is ignored in the mask
    """

    name: str
    logits: Tensor
    prediction: Tensor
    mask: Tensor


@dataclass(frozen=True)
class Validation:
    """Counts of a split, mean loss over its labelled pixels, if there is any, and duration."""

    counts: Counts
    loss: float | None
    seconds: float

    def __add__(self, other: Self) -> Self:
        """Join the results of two parts of a split, which were scored at the same time."""
        loss, counts = None, self.counts + other.counts
        if self.loss is not None and other.loss is not None:
            # Every labelled pixel is counted once.
            ours, theirs = self.counts.confusion.sum(), other.counts.confusion.sum()
            loss = float(self.loss * ours + other.loss * theirs) / max(int(ours + theirs), 1)
        return replace(self, counts=counts, loss=loss, seconds=max(self.seconds, other.seconds))


def predict_split(
    engine: Engine,
    dataset: SegmentationDataset,
    *,
    workers: int | Literal["auto"] = 0,
    progress: Progress | None = None,
    rank: int = 0,
    world_size: int = 1,
) -> Generator[ImageResult, None, None]:
    """Predict the images of a split, in order.

    A consumer that may stop early closes the generator (`contextlib.closing`). Of the `world_size`
    processes that share a split, each predicts the images rank, rank + world_size, ….

    Raises:
        ConfigError: The engine returns no logits.
        DataError: The classes differ, or a file cannot be used.
        WeightsError: The logits are not finite.
    """
    check_classes(engine.card, dataset)
    total = len(range(rank, len(dataset), world_size))
    workers = resolve_workers(workers, engine.device)
    loader = build_eval_loader(dataset, workers=workers, rank=rank, world_size=world_size)
    num_done = 0
    with closing(loader) as samples:
        for chunk in _take_chunks(samples, engine.batch_pixels):
            computed = engine.compute_all_logits([sample.image for sample in chunk])
            for sample, logits in zip(chunk, computed, strict=True):
                try:
                    check_finite(logits)
                except WeightsError as error:
                    message = f"The image {sample.name} cannot be scored. {error}"
                    raise WeightsError(message) from None
                yield ImageResult(sample.name, logits, compute_mask(logits), sample.mask)
                num_done += 1
                if progress is not None:
                    progress(num_done, total)


def _take_chunks(samples: Iterable[Sample], num_pixels: int) -> Iterator[list[Sample]]:
    """Yield lists of samples, each ended by the one that reaches the number of pixels."""
    chunk: list[Sample] = []
    for sample in samples:
        chunk.append(sample)
        if sum(one.mask.numel() for one in chunk) >= num_pixels:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def validate_model(
    model: Segmenter,
    dataset: SegmentationDataset,
    *,
    tta: TTA = TTA(),
    precision: Precision = "32",
    workers: int = 0,
    criterion: Criterion | None = None,
    progress: Progress | None = None,
    rank: int = 0,
    world_size: int = 1,
) -> Validation:
    """Count the predictions of a model on a split, and compute its loss.

    Memory does not grow with the number of images. The model runs in evaluation mode and keeps
    the mode it had; it has a card and is on the device to use. The loss is the criterion averaged
    over the images, weighted by their labelled pixels.

    The other arguments and the errors are those of `predict_split`. An exception raised by
    `progress` ends the pass; the counts of all processes add up.
    """
    engine = TorchEngine(model, tta=tta, precision=precision)
    counts, loss_sum, num_labelled = Counts(len(dataset.classes)), 0.0, 0
    modes = [(module, module.training) for module in model.modules()]
    start_s = time.perf_counter()
    results = predict_split(
        engine, dataset, workers=workers, progress=progress, rank=rank, world_size=world_size
    )
    model.eval()
    try:
        with closing(results):
            for result in results:
                tp_fp_fn = counts.update(result.prediction, result.mask)
                # Each labelled pixel is a true positive or a false negative of its own class.
                num_pixels = int(tp_fp_fn[:, [0, 2]].sum())
                if criterion is not None and num_pixels:
                    target = result.mask.to(result.logits.device, torch.int64)
                    with torch.inference_mode():
                        loss_sum += num_pixels * float(criterion(result.logits[None], target[None]))
                    num_labelled += num_pixels
    finally:
        for module, training in modes:
            module.training = training
    loss = None if criterion is None else loss_sum / max(num_labelled, 1)
    return Validation(counts, loss, time.perf_counter() - start_s)


def check_classes(card: ModelCard, dataset: SegmentationDataset) -> None:
    """Raise DataError if a model and a dataset have different classes.

    Names are compared unless one of the two only numbers its classes.
    """
    ours, theirs = card.classes.names, dataset.classes.names
    if len(ours) != len(theirs):
        raise DataError(
            f"The dataset {dataset.root} has {len(theirs)} classes ({', '.join(theirs)}), but "
            f"the model {card.name} was trained for {len(ours)} ({', '.join(ours)}). Give the "
            "dataset that it was trained for, or other weights."
        )
    numbers = tuple(str(index) for index in range(len(theirs)))
    if ours != theirs and numbers not in (ours, theirs):
        index = next(i for i, pair in enumerate(zip(ours, theirs, strict=True)) if len({*pair}) > 1)
        raise DataError(
            f"Class {index} is '{theirs[index]}' in the dataset {dataset.root}, but "
            f"'{ours[index]}' in the model. Give the dataset that the model was trained for, or "
            "correct the names and their order in classes.toml."
        )
