"""What one picture costs: parameters, operations, time and memory."""

import json
import os
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from atrous.devices import Precision, resolve_precision
from atrous.engines.torch_engine import TorchEngine
from atrous.engines.views import Views
from atrous.models import ModelCard, Segmenter, build_model
from atrous.models.flops import count_flops

_FEWEST_ROUNDS, _MOST_ROUNDS, _ROUNDS_S = 5, 100, 4.0


@dataclass(frozen=True)
class Cost:
    """What it takes to segment one picture, one at a time.

    Attributes:
        num_parameters: Without the auxiliary head, which only training uses.
        gflops: Multiplications and additions of the network's convolutions and matrix products
            over all views, in 10⁹; each multiply-add counts as two.
        latency_ms: Median time from the uint8 picture to its mask.
        latency_range_ms: Between which the middle half of the times lay.
        memory_mb: Most memory that weights, features and workspace took at a time, in 10⁶ bytes;
            None where it cannot be measured.
        size_hw: Height and width of the picture.
        views: Scales, mirror images and windows that the network saw it in.
        precision: `32` or `bf16`.
        device: What it was measured on, in words.
    """

    num_parameters: int
    gflops: float
    latency_ms: float
    latency_range_ms: tuple[float, float]
    memory_mb: float | None
    size_hw: tuple[int, int]
    views: Views
    precision: str
    device: str

    def describe_conditions(self) -> str:
        """Return how it was measured, such as `480×360 px, float32, on CPU, 2 threads`."""
        height, width = self.size_hw
        numbers = {"32": "float32", "bf16": "bfloat16"}[self.precision]
        seen = "" if self.views == Views() else f"{self.views.describe()}, "
        return f"{width}×{height} px, {seen}{numbers}, on {self.device}"


def measure_costs(
    models: Sequence[Segmenter],
    *,
    size_hw: tuple[int, int],
    views: Views = Views(),  # noqa: B008 (immutable)
    precision: Precision = "32",
    budget_s: float = _ROUNDS_S,
) -> list[Cost]:
    """Measure models side by side on this machine.

    Their pictures take turns, so that whatever else the machine does touches all alike. Memory on
    a CPU is the growth of a fresh process, on a GPU what its allocator says.

    Args:
        models: Models with cards, on one device; they are left in evaluation mode.
        size_hw: Height and width of the picture; a model of a fixed input size resizes it.
        views: Scales, mirror images and windows to see it in.
        precision: `32`, `bf16` or `auto`.
        budget_s: Time for the latency of each model, after which no new round begins.

    Raises:
        ConfigError: A model has no card.
    """
    engines = [TorchEngine(model.eval(), views=views, precision=precision) for model in models]
    image = torch.randint(
        0, 256, (3, *size_hw), generator=torch.Generator().manual_seed(0), dtype=torch.uint8
    )
    calls = [partial(_segment, engine, image) for engine in engines]
    return [
        Cost(
            num_parameters=count_parameters(engine.model),
            gflops=_count_flops(engine, image) / 1e9,
            latency_ms=1000 * statistics.median(times_s),
            latency_range_ms=_compute_middle_half_ms(times_s),
            memory_mb=_measure_memory_mb(engine, image),
            size_hw=size_hw,
            views=views,
            precision=engine.precision,
            device=describe_device(engine.device),
        )
        for engine, times_s in zip(engines, measure_times_s(calls, budget_s=budget_s), strict=True)
    ]


def count_parameters(model: Segmenter) -> int:
    """Return the number of weights that using the model takes: all but the auxiliary head's."""
    auxiliary = model.auxiliary_head.parameters() if model.auxiliary_head is not None else ()
    return sum(map(Tensor.numel, model.parameters())) - sum(map(Tensor.numel, auxiliary))


def measure_times_s(
    calls: Sequence[Callable[[], object]],
    *,
    budget_s: float = _ROUNDS_S,
    fewest: int = _FEWEST_ROUNDS,
    most: int = _MOST_ROUNDS,
) -> list[list[float]]:
    """Time calls in turns, after one call each to warm up.

    Args:
        calls: What to time; each returns when its work is done.
        budget_s: Time for each call on average, after which no new round begins.
        fewest: Rounds that are done whatever the budget.
        most: Rounds after which it is enough.

    Returns:
        For each call, the seconds of each round.
    """
    for call in calls:
        call()
    times_s: list[list[float]] = [[] for _ in calls]
    end_s = time.perf_counter() + budget_s * len(calls)
    for num_done in range(most):
        if num_done >= fewest and time.perf_counter() > end_s:
            break
        for call, own in zip(calls, times_s, strict=True):
            start_s = time.perf_counter()
            call()
            own.append(time.perf_counter() - start_s)
    return times_s


def describe_device(device: torch.device) -> str:
    """Return a device in words, such as `CPU, 2 threads`."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    num_threads = torch.get_num_threads()
    return f"{device.type.upper()}, {num_threads} thread{'s' * (num_threads > 1)}"


def _segment(engine: TorchEngine, image: Tensor) -> Tensor:
    return engine.predict_mask(image).cpu()  # waits until a GPU is done


def _count_flops(engine: TorchEngine, image: Tensor) -> int:
    """Count the operations of all that the network sees of a picture."""
    seen: Counter[torch.Size] = Counter()

    def note(backbone: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        seen[inputs[0].shape[-2:]] += len(inputs[0])

    with engine.model.backbone.register_forward_pre_hook(note):
        _segment(engine, image)
    return sum(
        times * count_flops(engine.model, (height, width))
        for (height, width), times in seen.items()
    )


def _compute_middle_half_ms(times_s: Sequence[float]) -> tuple[float, float]:
    quarters = statistics.quantiles(times_s, n=4, method="inclusive")
    return 1000 * quarters[0], 1000 * quarters[2]


def _measure_memory_mb(engine: TorchEngine, image: Tensor) -> float | None:
    if engine.device.type == "cuda":
        return _measure_gpu_memory_mb(engine, image)
    if engine.device.type == "cpu" and Path("/proc/self/status").is_file():
        return _measure_process_memory_mb(engine, image)
    return None


def _measure_gpu_memory_mb(engine: TorchEngine, image: Tensor) -> float:
    tensors = [*engine.model.parameters(), *engine.model.buffers()]
    num_bytes = sum(tensor.numel() * tensor.element_size() for tensor in tensors)
    torch.cuda.synchronize(engine.device)
    before = torch.cuda.memory_allocated(engine.device)
    torch.cuda.reset_peak_memory_stats(engine.device)
    _segment(engine, image)
    return (torch.cuda.max_memory_allocated(engine.device) - before + num_bytes) / 1e6


def _measure_process_memory_mb(engine: TorchEngine, image: Tensor) -> float | None:
    """Segment a picture in a process of its own, with new weights of the same shapes."""
    request = {
        "name": engine.model.name,
        "options": engine.model.options,
        "card": engine.card.to_json(),
        "precision": engine.precision,
        "views": asdict(engine.views),
        "shape": list(image.shape),
        "num_threads": torch.get_num_threads(),
    }
    child = subprocess.run(
        [sys.executable, "-c", "from atrous.inference.cost import _answer; _answer()"],
        input=json.dumps(request),
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
    )
    return float(child.stdout) / 1e6 if child.returncode == 0 else None


def _answer() -> None:
    """Read a request from stdin and print by how many bytes the resident memory grew."""
    request = json.load(sys.stdin)
    torch.set_num_threads(request["num_threads"])
    image = torch.zeros(request["shape"], dtype=torch.uint8)
    nn.Conv2d(3, 8, 3)(torch.zeros(1, 3, 32, 32))  # brings the libraries into memory
    _reset_peak()
    before = _read_status_bytes("VmRSS")
    model = build_model(request["name"], **request["options"]).eval()
    model.card = ModelCard.from_json(request["card"])
    precision = resolve_precision(request["precision"], image.device)
    engine = TorchEngine(model, views=Views.from_json(request["views"]), precision=precision)
    for _ in range(2):
        engine.predict_mask(image)
    print(_read_status_bytes("VmHWM") - before)


def _reset_peak() -> None:
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError:
        return  # then the peak of the imports counts where it was higher


def _read_status_bytes(key: str) -> int:
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith(f"{key}:"):
            return 1024 * int(line.split()[1])
    raise KeyError(key)
