"""Several processes that train one model: data parallel, each with its share of every batch."""

import logging
import os
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.nn.functional import all_reduce

from atrous.errors import ConfigError

if TYPE_CHECKING:
    from lightning_fabric import Fabric

Value = TypeVar("Value")


@dataclass(frozen=True)
class World:
    """The processes of a training, and what they exchange. By default, it is this process alone.

    Attributes:
        local_rank: Index of this process on its machine, and of its GPU.
        local_size: Number of processes on this machine.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    local_size: int = 1

    @property
    def is_main(self) -> bool:
        """Whether this process writes the run folder and reports progress."""
        return self.rank == 0

    def gather(self, value: Value) -> list[Value]:
        """Return the values of all processes, in the order of their ranks."""
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        dist.all_gather_object(values, value)
        return values

    def share(self, value: Value) -> Value:
        """Return the value of the main process."""
        return value if self.size == 1 else self.gather(value if self.is_main else None)[0]  # type: ignore[return-value]

    def add(self, value: Tensor) -> Tensor:
        """Return the sum over all processes, which replaces the value."""
        if self.size > 1:
            dist.all_reduce(value)
        return value

    def choose_device(self, device: torch.device) -> torch.device:
        """Return the device of this process: each has a GPU of its own."""
        if self.size == 1 or device.type != "cuda":
            return device
        return torch.device("cuda", self.local_rank)

    def launch_fabric(self, device: torch.device, precision: str) -> "Fabric":
        """Set up the device of this process, and its precision, `32` or `bf16`."""
        given = [device.index] if device.type == "cuda" and device.index is not None else 1
        fabric = _import_fabric()(
            accelerator=device.type,
            devices=given if self.size == 1 else self.local_size,
            num_nodes=self.size // self.local_size,
            strategy="auto" if self.size == 1 else "ddp",
            precision="bf16-mixed" if precision == "bf16" else "32-true",
        )
        fabric.launch()
        return fabric


def _import_fabric() -> type["Fabric"]:
    """Import Fabric without torchmetrics, whose version it compares, which takes 2 s.

    Its notes, such as on the precision, are left out: the import sets their level.
    """
    sys.modules.setdefault("torchmetrics", None)  # type: ignore[arg-type]
    try:
        from lightning_fabric import Fabric
    finally:
        if sys.modules["torchmetrics"] is None:
            del sys.modules["torchmetrics"]
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    return Fabric


def join_world(device: torch.device, batch_size: int | None) -> World:
    """Connect to the other processes that `atrous train --devices` or torchrun started.

    Args:
        batch_size: None if it is chosen for the processes later.

    Raises:
        ConfigError: There are fewer GPUs than processes, or the batch cannot be divided.
    """
    defaults = {"RANK": 0, "WORLD_SIZE": 1, "LOCAL_RANK": 0, "LOCAL_WORLD_SIZE": 1}
    world = World(*(int(os.environ.get(name, number)) for name, number in defaults.items()))
    if world.size == 1:
        return world
    if batch_size is not None and batch_size % world.size:
        raise ConfigError(
            f"A batch of {batch_size} images cannot be divided among {world.size} processes. Give "
            f"a --batch-size that is a multiple of {world.size}."
        )
    if device.type == "cuda" and world.local_size > torch.cuda.device_count():
        raise ConfigError(
            f"{world.local_size} processes need {world.local_size} GPUs; this machine has "
            f"{torch.cuda.device_count()}. Give --devices {torch.cuda.device_count()}."
        )
    if not dist.is_initialized():
        dist.init_process_group("cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo")
    return world


def synchronize_batch_norm(model: nn.Module, device: torch.device) -> None:
    """Let batch norm use the statistics of the batch of all processes, in place."""
    for module in list(model.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.BatchNorm2d) and device.type == "cuda":
                setattr(module, name, nn.SyncBatchNorm.convert_sync_batchnorm(child))
            elif isinstance(child, nn.BatchNorm2d):
                child.__class__ = _SyncBatchNorm2d


class _SyncBatchNorm2d(nn.BatchNorm2d):
    """Synchronized batch norm on a CPU, for which torch has none."""

    def forward(self, features: Tensor) -> Tensor:
        if not self.training:
            return super().forward(features)
        count = features[:, 0].numel() * dist.get_world_size()  # all have equal shares of a batch
        precise = features.float()
        mean = all_reduce(precise.sum((0, 2, 3))) / count
        centred = precise - mean[:, None, None]
        var = all_reduce(centred.square().sum((0, 2, 3))) / count
        with torch.no_grad():
            values = (mean, var * count / (count - 1))
            for running, value in zip((self.running_mean, self.running_var), values, strict=True):
                assert running is not None
                running.lerp_(value, self.momentum or 0.0)
            if self.num_batches_tracked is not None:
                self.num_batches_tracked += 1
        scale = self.weight * (var + self.eps).rsqrt()
        return (centred * scale[:, None, None] + self.bias[:, None, None]).to(features.dtype)
