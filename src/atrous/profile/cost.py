"""The cost of inference on one image: parameters, FLOPs, latency and memory."""

import statistics
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from atrous.engines.torch_engine import TorchEngine
from atrous.engines.tta import TTA
from atrous.models import ModelCard, Segmenter, build_model
from atrous.parsing import parse_json
from atrous.profile.process import read_process_bytes, read_processor_times_s, run_child
from atrous.timing import measure_times_s

_BUSY_SHARE = 0.1


@dataclass(frozen=True)
class Cost:
    """The cost of segmenting one image at a time.

    Attributes:
        num_parameters: Parameters without the auxiliary head, which is only used in training.
        gflops: FLOPs of convolutions and matrix products over all passes of test-time
            augmentation, in 10⁹; a multiply-add is two.
        latency_ms, latency_range_ms: Median and quartiles of the time from uint8 image to mask.
        memory_mb: Peak memory of weights, features and workspace, in 10⁶ bytes; None if it cannot
            be measured on this machine.
        other_load: Share of the processor that other processes used during the measurement of
            the latency, 0 to 1; None if the system does not report it.
    """

    num_parameters: int
    gflops: float
    latency_ms: float
    latency_range_ms: tuple[float, float]
    memory_mb: float | None
    size_hw: tuple[int, int]
    tta: TTA
    precision: str
    device: str
    other_load: float | None = None

    @property
    def load_note(self) -> str:
        """A caveat if the machine was busy while the latency was measured, else ''."""
        if self.other_load is None or self.other_load < _BUSY_SHARE:
            return ""
        return (
            f"Other programs used {100 * self.other_load:.0f} % of the processor while the latency "
            "was measured; on an idle machine it is lower. Measure again when the machine is idle."
        )

    def describe_conditions(self) -> str:
        """Describe the measurement, for example `480×360 px, float32, on CPU, 2 threads`."""
        height, width = self.size_hw
        numbers = {"32": "float32", "bf16": "bfloat16"}[self.precision]
        seen = "" if self.tta == TTA() else f"{self.tta.describe()}, "
        return f"{width}×{height} px, {seen}{numbers}, on {self.device}"


def measure_costs(
    models: Sequence[Segmenter],
    *,
    size_hw: tuple[int, int],
    tta: TTA = TTA(),
    budget_s: float = 4.0,
) -> list[Cost]:
    """Measure the cost of models on this machine.

    Latency is measured in turns. Memory is the growth of a new process on a CPU, and the peak of
    the allocator on a GPU.

    The models have cards and are on one device; they are set to evaluation mode. After `budget_s`
    for the latency of each model, no further round starts.
    """
    engines = [TorchEngine(model.eval(), tta=tta) for model in models]
    images = [
        torch.randint(
            0,
            256,
            (engine.card.bands or 3, *size_hw),
            generator=torch.Generator().manual_seed(0),
            dtype=torch.uint8,
        )
        for engine in engines
    ]
    calls = [partial(_segment, *pair) for pair in zip(engines, images, strict=True)]
    before = read_processor_times_s()
    times = measure_times_s(calls, budget_s=budget_s)
    other_load = compute_other_load(before, read_processor_times_s())
    return [
        Cost(
            num_parameters=count_parameters(engine.model),
            gflops=_count_flops(engine, image) / 1e9,
            latency_ms=1000 * statistics.median(times_s),
            latency_range_ms=(1000 * first_s, 1000 * third_s),
            memory_mb=_measure_memory_mb(engine, image),
            size_hw=size_hw,
            tta=tta,
            precision=engine.precision,
            device=describe_device(engine.device),
            other_load=other_load,
        )
        for engine, image, times_s in zip(engines, images, times, strict=True)
        for first_s, _, third_s in [statistics.quantiles(times_s, n=4, method="inclusive")]
    ]


def count_parameters(model: Segmenter) -> int:
    """Count the parameters that inference uses: all but those of the auxiliary head."""
    auxiliary = model.auxiliary_head.parameters() if model.auxiliary_head is not None else ()
    return sum(map(Tensor.numel, model.parameters())) - sum(map(Tensor.numel, auxiliary))


def compute_other_load(
    before: tuple[float, float] | None, after: tuple[float, float] | None
) -> float | None:
    """Return the share of the processor that other processes used between two readings."""
    if before is None or after is None or after[1] <= before[1]:
        return None
    return min(max((after[0] - before[0]) / (after[1] - before[1]), 0.0), 1.0)


def describe_device(device: torch.device) -> str:
    """Describe a device, for example `CPU, 2 threads`."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    num_threads = torch.get_num_threads()
    return f"{device.type.upper()}, {num_threads} thread{'s' * (num_threads > 1)}"


def _segment(engine: TorchEngine, image: Tensor) -> Tensor:
    return engine.predict_mask(image).cpu()  # waits until a GPU is done


def _count_flops(engine: TorchEngine, image: Tensor) -> int:
    with FlopCounterMode(display=False) as counter:
        _segment(engine, image)
    return int(counter.get_total_flops())


def _measure_memory_mb(engine: TorchEngine, image: Tensor) -> float | None:
    if engine.device.type == "cpu":
        return _measure_process_memory_mb(engine, image)
    if engine.device.type != "cuda":
        return None
    tensors = [*engine.model.parameters(), *engine.model.buffers()]
    num_bytes = sum(tensor.numel() * tensor.element_size() for tensor in tensors)
    torch.cuda.synchronize(engine.device)
    before = torch.cuda.memory_allocated(engine.device)
    torch.cuda.reset_peak_memory_stats(engine.device)
    _segment(engine, image)
    return (torch.cuda.max_memory_allocated(engine.device) - before + num_bytes) / 1e6


def _measure_process_memory_mb(engine: TorchEngine, image: Tensor) -> float | None:
    """Segment an image in a new process, with random weights of the same shapes."""
    request = {
        "name": engine.model.name,
        "options": engine.model.options,
        "card": engine.card.to_json(),
        "tta": asdict(engine.tta),
        "shape": list(image.shape),
        "num_threads": torch.get_num_threads(),
    }
    child = run_child("atrous.profile.cost:_print_memory", request)
    return float(child.stdout) / 1e6 if child.returncode == 0 else None


def _print_memory() -> None:
    """Read a request from stdin, run it, and print the growth of the resident memory in bytes."""
    request = parse_json(sys.stdin.read())
    torch.set_num_threads(request["num_threads"])
    image = torch.zeros(request["shape"], dtype=torch.uint8)
    nn.Conv2d(3, 8, 3)(torch.zeros(1, 3, 32, 32))  # loads the libraries into memory
    with suppress(OSError):  # otherwise the peak includes that of the imports
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    before = read_process_bytes("VmRSS")
    model = build_model(request["name"], **request["options"]).eval()
    model.card = ModelCard.from_json(request["card"])
    engine = TorchEngine(model, tta=TTA.from_json(request["tta"]))
    for _ in range(2):
        engine.predict_mask(image)
    print(read_process_bytes("VmHWM") - before)
