"""Batches from an endless stream of samples, each a pure function of its position.

Position p of the stream is image `compute_sample_order(n, seed, p // n)[p % n]`, transformed with
`compute_seed(seed, p // n, index)`. Batch k needs no earlier batch and can be made by any worker.
"""

from collections.abc import Callable, Generator
from functools import lru_cache, partial
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from atrous.data.dataset import Sample, SegmentationDataset
from atrous.data.workers import load_in_order
from atrous.seeds import compute_seed

Transform = Callable[[Sample, int], Sample]


class Batch(NamedTuple):
    """Samples of one size.

    Attributes:
        image: uint8 (B, 3, H, W), channels last in memory.
        mask: uint8 (B, H, W); ignored pixels are 255.
        names: B file stems.
    """

    image: Tensor
    mask: Tensor
    names: list[str]


@lru_cache(maxsize=2)
def compute_sample_order(num_samples: int, seed: int, epoch: int) -> np.ndarray:
    """Return the order of the samples in an epoch, a permutation of 0 … num_samples-1."""
    order = np.random.default_rng((seed, epoch)).permutation(num_samples)
    order.setflags(write=False)
    return order


def stream_position(position: int, num_samples: int, seed: int) -> tuple[int, int]:
    """Return (epoch, image index) of a position in the endless stream."""
    epoch, offset = divmod(position, num_samples)
    return epoch, int(compute_sample_order(num_samples, seed, epoch)[offset])


def build_train_loader(
    dataset: SegmentationDataset,
    transform: Transform,
    *,
    batch_size: int,
    seed: int,
    start_batch: int,
    num_batches: int,
    workers: int,
    rank: int = 0,
    world_size: int = 1,
) -> Generator[Batch]:
    """Return batches `start_batch` … `start_batch + num_batches - 1`, each of full size.

    Close the generator if not all batches are taken; this ends the worker processes. Batch k covers
    `batch_size * world_size` positions of the stream, divided among the ranks. The time to the
    first batch does not depend on `start_batch`, and no batch depends on the number of workers.

    Args:
        transform: Called with a sample and its seed; its results have one size.
        batch_size: Samples per batch of this process.
        seed: Seed of the order and of the augmentation.
        workers: Processes that load ahead; with 0, batches are loaded on demand.
        world_size: Number of processes that share each batch.

    Raises:
        ConfigError: The number of workers is negative.
        DataError: While iterating, a file cannot be read, or a worker process was killed.
    """
    batches = range(start_batch, start_batch + num_batches)
    starts = ((batch * world_size + rank) * batch_size for batch in batches)
    positions = (range(start, start + batch_size) for start in starts)
    load = partial(_load_batch, dataset, transform, seed)
    pin = partial(_pin, torch.cuda.current_device()) if torch.cuda.is_available() else None
    return load_in_order(load, positions, workers=workers, receive=pin)


def build_eval_loader(
    dataset: SegmentationDataset, *, workers: int, rank: int = 0, world_size: int = 1
) -> Generator[Sample]:
    """Return the samples in order, at their own sizes: indices rank, rank + world_size, …

    Close the generator if not all samples are taken; this ends the worker processes.

    Raises:
        ConfigError: The number of workers is negative.
        DataError: While iterating, a file cannot be read, or a worker process was killed.
    """
    return load_in_order(dataset.load, range(rank, len(dataset), world_size), workers=workers)


def _load_batch(
    dataset: SegmentationDataset, transform: Transform, seed: int, positions: range
) -> Batch:
    samples = []
    for position in positions:
        epoch, index = stream_position(position, len(dataset), seed)
        samples.append(transform(dataset.load(index), compute_seed(seed, epoch, index)))
    rows = torch.stack([sample.image.permute(1, 2, 0) for sample in samples])
    masks = torch.stack([sample.mask for sample in samples])
    return Batch(rows.permute(0, 3, 1, 2), masks, [sample.name for sample in samples])


def _pin(device: int, batch: Batch) -> Batch:
    """Copy a batch into page-locked memory, from which transfers to the GPU are asynchronous."""
    with torch.cuda.device(device):
        return Batch(batch.image.pin_memory(), batch.mask.pin_memory(), batch.names)
