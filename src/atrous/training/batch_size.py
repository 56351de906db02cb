"""The largest batch size that trains in the memory of a device, found in a child process."""

import resource
import sys
from contextlib import suppress
from pathlib import Path

import torch

from atrous.bands import BandStatistics
from atrous.classes import build_classes
from atrous.data import Batch
from atrous.devices import resolve_device
from atrous.errors import ConfigError
from atrous.parsing import parse_json
from atrous.profile.process import read_process_bytes, run_child
from atrous.recipe import Recipe, build_recipe
from atrous.training.features import FeatureBatch, make_random_batch
from atrous.training.learner import Learner

MEMORY_SHARE = 0.8
"""Share of the available memory that training may use; the rest is for reading and evaluation."""

AMPLE_BYTES_PER_PX = 12 * 2**10
"""Available memory per pixel of a batch beyond which there is no need to search."""


def find_batch_size(
    recipe: Recipe,
    num_classes: int,
    *,
    max_batch_size: int,
    memory_bytes: int,
    bands: int | None = None,
) -> tuple[int, int]:
    """Find the largest power of two that trains as a batch size on the recipe's device.

    A child process trains on batches of 1, 2, 4, … random images until it reaches `memory_bytes`.
    If it is killed, the last batch size that it finished counts.

    Returns:
        The batch size, at most `max_batch_size`, and its peak memory in bytes.

    Raises:
        ConfigError: Not even one image per batch can be trained.
    """
    values = recipe.model_dump(mode="json", exclude_none=True)
    values["train"]["accumulate"] = 1
    request = [values, num_classes, max_batch_size, memory_bytes, bands]
    child = run_child(f"{__name__}:_try_batch_sizes", request)
    if not child.stdout:
        reason = (child.stderr.strip().splitlines() or ["killed"])[-1].removesuffix(":")
        raise ConfigError(
            f"--batch-size auto could not train on one image per batch: {reason}. Give a smaller "
            "--size, --crop or --model, free memory, or give --batch-size a number."
        )
    batch_size, peak_bytes = child.stdout.splitlines()[-1].split()
    return int(batch_size), int(peak_bytes)


def is_memory_ample(recipe: Recipe, batch_size: int, available_bytes: int) -> bool:
    """Whether the batch size surely fits.

    Training uses 3.6 KB per pixel of a batch with EfficientNet-Lite0, and 11.6 KB with ResNet-101
    at output stride 8.
    """
    height, width = recipe.data.train_hw
    return available_bytes >= batch_size * height * width * AMPLE_BYTES_PER_PX


def read_device_bytes(device: torch.device, num_processes: int = 1) -> int:
    """Read the memory that is available to each of the processes that train on this machine."""
    if device.type == "cuda":  # each process has a device of its own
        return torch.cuda.mem_get_info(device)[0]
    return read_available_bytes() // num_processes


def _try_batch_sizes() -> None:
    values, num_classes, max_batch_size, limit, bands = parse_json(sys.stdin.read())
    recipe = build_recipe(values)
    device = resolve_device(recipe.train.device)
    is_cuda = device.type == "cuda"
    start = 0 if is_cuda else read_process_bytes("VmRSS")
    if is_cuda:
        total = torch.cuda.get_device_properties(device).total_memory
        torch.cuda.set_per_process_memory_fraction(min(1.0, limit / total), device)
    else:  # an allocation beyond the limit then fails, before the machine runs out of memory
        max_data = read_process_bytes("VmData") + limit
        resource.setrlimit(resource.RLIMIT_DATA, (max_data, max_data))
    classes, statistics = build_classes(["x"] * num_classes), BandStatistics.unknown(bands)
    learner = Learner(recipe, classes, None, load_init=False, bands=statistics)
    previous = 0
    for batch_size in (2**power for power in range(max_batch_size.bit_length())):
        _train_steps(learner, recipe, num_classes, batch_size)
        peak = torch.cuda.max_memory_allocated(device) if is_cuda else read_process_bytes("VmHWM")
        if (used := peak - start) > limit:
            raise MemoryError(f"{used} bytes are used of {limit}")
        print(batch_size, used, flush=True)
        if batch_size > 1 and used + 2 * (used - previous) > limit:
            return  # the next one would exceed the limit
        previous = used


def _train_steps(learner: Learner, recipe: Recipe, num_classes: int, batch_size: int) -> None:
    image_chw = (learner.model.in_channels, *recipe.data.train_hw)
    batch: Batch | FeatureBatch
    if learner.cut is not None:
        batch = make_random_batch(learner.compute_features, image_chw, batch_size)
    else:
        image = torch.randint(256, (batch_size, *image_chw), dtype=torch.uint8)
        batch = Batch(image, image[:, 0] % num_classes, ["random"] * batch_size)
    for step in range(2 if batch_size == 1 else 1):  # the first step creates the optimizer's state
        learner.update(iter([batch]), step=step, lr=0.0)


def read_available_bytes(root: Path = Path("/")) -> int:
    """Read the memory that this process can allocate, within the limits of its cgroups."""
    values = dict(line.split(":") for line in (root / "proc/meminfo").read_text().splitlines())
    available = [1024 * int(values["MemAvailable"].split()[0])]
    for line in (root / "proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        v1_names = ("memory.limit_in_bytes", "memory.usage_in_bytes")
        names = v1_names if controllers else ("memory.max", "memory.current")
        top, relative = root / "sys/fs/cgroup" / controllers, Path(path.lstrip("/"))
        for folder in (top / relative, *(top / parent for parent in relative.parents)):
            with suppress(OSError, ValueError):
                limit, used = (int((folder / name).read_text()) for name in names)
                stat = dict(map(str.split, (folder / "memory.stat").read_text().splitlines()))
                available.append(limit - used + int(stat["inactive_file"]))
    return max(0, min(available))
