"""Devices and precisions by name."""

from typing import Literal

import torch

from atrous.errors import ConfigError
from atrous.timing import count_cores

Precision = Literal["auto", "32", "bf16"]


def resolve_device(name: str) -> torch.device:
    """Return the device of a name such as `auto`, `cpu`, `cuda` or `cuda:1`.

    Raises:
        ConfigError: The device does not exist.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError):
        num_gpus = torch.cuda.device_count()
        here = ["cpu"] + [f"cuda:{index}" for index in range(num_gpus)]
        raise ConfigError(
            f"There is no such device as '{name}'. Use auto, or one of: {', '.join(here)}."
        ) from None
    return device


def resolve_precision(name: str, device: torch.device) -> Literal["32", "bf16"]:
    """Return `32` or `bf16`; `auto` is bf16 if the device supports it natively.

    Raises:
        ConfigError: The precision is unknown.
    """
    if name == "auto":
        if device.type == "cuda":
            return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "32"
        has_bf16 = getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)  # no public name
        return "bf16" if has_bf16() else "32"
    if name not in ("32", "bf16"):
        raise ConfigError(f"There is no precision '{name}'. Use auto, 32 or bf16.")
    return name  # type: ignore[return-value]


def resolve_workers(
    number: int | Literal["auto"], device: torch.device, num_processes: int = 1
) -> int:
    """Return the number of processes that load images for one of `num_processes` trainings.

    `auto` is 2 on a CPU, whose cores compute; otherwise, one per core but one, at most 16 in all.
    """
    if number != "auto":
        return number
    if device.type == "cpu":
        return 2
    return max(1, min(16, count_cores() - 1) // num_processes)
