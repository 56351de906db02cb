"""Batches from one endless stream of samples, each a pure function of its position.

Position p of the stream is picture `compute_sample_order(n, seed, p // n)[p % n]`, changed with
`compute_seed(seed, p // n, index)`. So batch k can be made without batches 0 … k-1, and by
any worker.
"""

import signal
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from atrous.data.dataset import SegmentationDataset
from atrous.data.sample import Sample
from atrous.errors import ConfigError, DataError
from atrous.seeds import compute_seed

Transform = Callable[[Sample, int], Sample]


class Batch(NamedTuple):
    """Samples of one size.

    Attributes:
        image: uint8 (B, 3, H, W), channels last in memory.
        mask: uint8 (B, H, W), void 255.
        names: B file stems.
    """

    image: Tensor
    mask: Tensor
    names: list[str]


@lru_cache(maxsize=2)
def compute_sample_order(num_samples: int, seed: int, epoch: int) -> np.ndarray:
    """Return the permutation of 0 … num_samples-1 in which an epoch goes through the data."""
    order = np.random.default_rng((seed, epoch)).permutation(num_samples)
    order.setflags(write=False)
    return order


def stream_position(position: int, num_samples: int, seed: int) -> tuple[int, int]:
    """Return (epoch, picture index) of a position in the endless stream."""
    epoch, place = divmod(position, num_samples)
    return epoch, int(compute_sample_order(num_samples, seed, epoch)[place])


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
) -> Iterator[Batch]:
    """Return batches `start_batch` … `start_batch + num_batches - 1`, every one of them full.

    Of the stream, batch k holds `batch_size * world_size` positions, of which this rank takes
    the `rank`-th part. Starting anywhere takes the same time, and the number of workers changes
    no batch.

    Args:
        dataset: Pictures.
        transform: Makes all samples one size; called with `compute_seed`.
        batch_size: Samples per batch of this process.
        seed: Seed of the order and of the changes.
        start_batch: Number of the first batch.
        num_batches: How many batches.
        workers: Processes that read ahead; with 0, batches are made when asked for.
        rank: This process among `world_size`.
        world_size: Processes that share each batch.

    Raises:
        DataError: While iterating, a file cannot be used; the message is that of the reader.
    """
    positions = [
        range(
            (batch * world_size + rank) * batch_size, (batch * world_size + rank + 1) * batch_size
        )
        for batch in range(start_batch, start_batch + num_batches)
    ]
    stream = _Stream(dataset, transform, seed)
    return _iterate(stream, workers=workers, batch_sampler=positions, collate_fn=_collate)


def build_eval_loader(
    dataset: SegmentationDataset, *, workers: int, rank: int = 0, world_size: int = 1
) -> Iterator[Sample]:
    """Return the samples in order, at their own sizes: those at rank, rank + world_size, …

    Raises:
        DataError: While iterating, a file cannot be used; the message is that of the reader.
    """
    indices = range(rank, len(dataset), world_size)
    return _iterate(_Pictures(dataset), workers=workers, sampler=indices, batch_size=None)


# A DataError that a worker raises would reach the parent with a traceback in its message, so
# workers hand it over like a sample.


@dataclass(frozen=True)
class _Pictures:
    dataset: SegmentationDataset

    def __getitem__(self, index: int) -> Sample | DataError:
        try:
            return self.dataset.load(index)
        except DataError as error:
            return error


@dataclass(frozen=True)
class _Stream:
    dataset: SegmentationDataset
    transform: Transform
    seed: int

    def __getitem__(self, position: int) -> Sample | DataError:
        epoch, index = stream_position(position, len(self.dataset), self.seed)
        try:
            sample = self.dataset.load(index)
        except DataError as error:
            return error
        return self.transform(sample, compute_seed(self.seed, epoch, index))


def _collate(samples: list[Sample | DataError]) -> Batch | DataError:
    good = []
    for sample in samples:
        if isinstance(sample, DataError):
            return sample
        good.append(sample)
    rows = torch.stack([sample.image.permute(1, 2, 0) for sample in good])
    masks = torch.stack([sample.mask for sample in good])
    return Batch(rows.permute(0, 3, 1, 2), masks, [sample.name for sample in good])


def _iterate(source: Any, *, workers: int, **options: Any) -> Iterator[Any]:
    if workers < 0:
        raise ConfigError(f"The number of workers must be 0 or more, not {workers}.")
    loader: Iterable[Any] = DataLoader(
        source,
        num_workers=workers,
        worker_init_fn=_ignore_signals,
        pin_memory=torch.cuda.is_available(),
        generator=torch.Generator(),  # else each loader would advance the global random state
        **options,
    )
    return _raise_errors(loader)


def _raise_errors(loader: Iterable[Any]) -> Iterator[Any]:
    try:
        for item in loader:
            if isinstance(item, DataError):
                raise item
            yield item
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        raise DataError(
            f"A process that reads pictures ahead was killed: {error}. Mostly there is too little "
            "memory, or too little shared memory (/dev/shm) in a container: use fewer workers, "
            "or give the container more."
        ) from error


def _ignore_signals(worker: int) -> None:
    """Leave Ctrl-C, and a SIGTERM to the whole process group, to the parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
