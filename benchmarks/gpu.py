"""Training, evaluation and exact resume on an accelerator, beside torchvision's way, in minutes.

python benchmarks/gpu.py [--out gpu-figures] [--small]

Writes OUT/figures.json and OUT/figures.md. Steps are timed in blocks, in turns; a block ends when
the device has finished. `--small` runs everything at a size for a CPU, whose figures say nothing.
"""

import argparse
import itertools
import json
import re
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import date
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch.nn import functional as F
from torch.profiler import ProfilerActivity, profile
from torchvision.models.segmentation import deeplabv3_resnet50

from atrous import train
from atrous.classes import build_classes
from atrous.data import Batch, open_dataset
from atrous.devices import resolve_device
from atrous.images import normalize
from atrous.models import build_model
from atrous.profile.flops import count_flops
from atrous.recipe import Recipe, build_recipe
from atrous.timing import measure_times_s
from atrous.training.learner import Learner

NUM_CLASSES = 21
Step = Callable[[], object]


class Setting(NamedTuple):
    """Sizes of the measurements."""

    backbone: str
    side_px: int
    batch_size: int
    steps: int
    rounds: int
    num_images: int
    loop_steps: int


FULL = Setting("resnet50", 513, 16, 4, 5, 128, 60)
SMALL = Setting("efficientnet_lite0", 32, 2, 1, 1, 4, 4)


def synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def run_block(step: Step, setting: Setting, device: torch.device) -> None:
    for _ in range(setting.steps):
        step()
    synchronize(device)


def build_batch(setting: Setting) -> Batch:
    size = (setting.batch_size, setting.side_px, setting.side_px)
    image = torch.randint(256, (*size, 3), dtype=torch.uint8).movedim(3, 1)
    mask = torch.randint(NUM_CLASSES, size, dtype=torch.uint8)
    if torch.cuda.is_available():
        image, mask = image.pin_memory(), mask.pin_memory()
    return Batch(image, mask, ["random"] * setting.batch_size)


def build_torchvision_step(
    batch: Batch, device: torch.device, dtype: torch.dtype, memory_format: torch.memory_format
) -> Step:
    """Build a step like that of torchvision's reference script: SGD, at output stride 8."""
    model = deeplabv3_resnet50(
        weights=None, weights_backbone=None, num_classes=NUM_CLASSES, aux_loss=False
    )
    model.train().to(device, memory_format=memory_format)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9)
    scaler = torch.amp.GradScaler(device.type, enabled=dtype == torch.float16)

    def step() -> None:
        image = normalize(batch.image.to(device, non_blocking=True))
        mask = batch.mask.to(device, non_blocking=True).long()
        with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
            logits = model(image.contiguous(memory_format=memory_format))["out"]
            loss = F.cross_entropy(logits, mask, ignore_index=255)
        optimizer.zero_grad()
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        loss.item()

    return step


def build_atrous_step(
    batch: Batch, setting: Setting, stride: int, *, compile: bool = False, **train_keys: Any
) -> tuple[Step, Learner]:
    model = {"name": f"deeplabv3_{setting.backbone}", "output_stride": stride}
    recipe = build_recipe({"model": model, "train": {"optimizer": "sgd", **train_keys}})
    classes = build_classes([str(index) for index in range(NUM_CLASSES)])
    learner = Learner(recipe, classes, None, compile=compile)
    batches = itertools.repeat(batch)
    return (lambda: learner.update(batches, step=0, lr=1e-3)), learner


def measure_steps(setting: Setting, device: torch.device) -> dict[str, dict[str, float]]:
    """Time steps of torchvision and atrous in turns, after one block each for its memory."""
    batch, nchw, nhwc = build_batch(setting), torch.contiguous_format, torch.channels_last
    steps: dict[str, tuple[Step, int]] = {}
    if device.type == "cuda":
        torch.backends.cudnn.allow_tf32 = True
        for label, dtype, memory_format in (
            ("torchvision, stride 8, TF32, NCHW", torch.float32, nchw),
            ("torchvision, stride 8, fp16, NCHW (its reference)", torch.float16, nchw),
            ("torchvision, stride 8, bf16, channels last", torch.bfloat16, nhwc),
        ):
            steps[label] = build_torchvision_step(batch, device, dtype, memory_format), 8
    for label, stride, keys in (
        ("atrous, stride 8", 8, {}),
        ("atrous, stride 16", 16, {}),
        ("atrous, stride 16, AdamW, EMA, clipping",
         16, {"optimizer": "adamw", "ema": 0.99, "clip_norm": 1.0}),
        ("atrous, stride 8, compiled", 8, {"compile": True}),
        ("atrous, stride 16, compiled", 16, {"compile": True}),
    ):  # fmt: skip
        if device.type == "cuda" or "compile" not in keys:
            steps[label] = build_atrous_step(batch, setting, stride, **keys)[0], stride

    peaks = {}
    for label, (step, _) in steps.items():
        before = torch.cuda.memory_allocated() if device.type == "cuda" else 0
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
        run_block(step, setting, device)
        peaks[label] = torch.cuda.max_memory_allocated() - before if device.type == "cuda" else 0
    times_s = measure_times_s(
        [partial(run_block, step, setting, device) for step, _ in steps.values()],
        min_rounds=setting.rounds,
        max_rounds=setting.rounds,
    )
    flops = {
        stride: 3 * setting.batch_size * count_flops(
            build_model(f"deeplabv3_{setting.backbone}", num_classes=NUM_CLASSES,
                        output_stride=stride),
            (setting.side_px, setting.side_px),
        )
        for stride in (8, 16)
    }  # fmt: skip
    figures = {}
    for (label, (_, stride)), blocks in zip(steps.items(), times_s, strict=True):
        step_s = statistics.median(blocks) / setting.steps
        figures[label] = {
            "ms_per_step": 1e3 * step_s,
            "images_per_s": setting.batch_size / step_s,
            "tflops": flops[stride] / step_s / 1e12,
            "peak_gib": peaks[label] / 2**30,
        }
    return figures


def measure_matrix_peak(device: torch.device) -> float:
    """Return TFLOP/s of a bf16 matrix product."""
    side = 8192 if device.type == "cuda" else 256
    a = torch.randn(side, side, device=device, dtype=torch.bfloat16)

    def multiply() -> None:
        _ = a @ a
        synchronize(device)

    return 2 * side**3 / min(measure_times_s([multiply])[0]) / 1e12


def measure_kernels(setting: Setting, device: torch.device) -> dict[str, float]:
    """Return the share of the device's time per kind of operation, in a step at stride 16."""
    step, _ = build_atrous_step(build_batch(setting), setting, 16)
    run_block(step, setting, device)  # otherwise the profile would include what the warm-up left
    activities = [ProfilerActivity.CPU]
    if device.type == "cuda":
        activities.append(ProfilerActivity.CUDA)
    with profile(activities=activities) as profiler:
        step()
        synchronize(device)
    times: Counter[str] = Counter()
    for event in profiler.key_averages():
        spent = event.self_device_time_total if device.type == "cuda" else event.self_cpu_time_total
        times[re.sub(r"^(aten::)?(_|cudnn_|mkldnn_)*", "", event.key).split("<")[0][:60]] += spent
    total = sum(times.values())
    return {name: spent / total for name, spent in times.most_common(15)}


def write_images(folder: Path, setting: Setting, *, mixed: bool) -> Path:
    """Write JPEGs of VOC's size, or of many sizes, with masks of blocks."""
    rng = np.random.default_rng(0)
    (folder / "classes.toml").parent.mkdir(parents=True)
    names = ", ".join(f'"{index}"' for index in range(NUM_CLASSES))
    (folder / "classes.toml").write_text(f"names = [{names}]\n")
    for split in ("train", "val"):
        for kind in ("images", "masks"):
            (folder / split / kind).mkdir(parents=True)
        for index in range(setting.num_images):
            shift = int(rng.integers(-100, 100)) if mixed else 0
            size = (500, 375 + shift) if index % 2 else (375 + shift, 500)
            colours = rng.integers(256, size=(12, 16, 3), dtype=np.uint8)
            resized = Image.fromarray(colours).resize(size, Image.Resampling.BICUBIC)
            resized.save(folder / split / "images" / f"{index:04d}.jpg", quality=90)
            cells = Image.fromarray(rng.integers(NUM_CLASSES, size=(12, 16), dtype=np.uint8))
            cells.resize(size, Image.Resampling.NEAREST).save(
                folder / split / "masks" / f"{index:04d}.png"
            )
    return folder


def build_loop_recipe(setting: Setting, data: Path, num_steps: int, **keys: Any) -> Recipe:
    return build_recipe(
        {
            "model": {"name": f"deeplabv3_{setting.backbone}", "output_stride": 16},
            "data": {"root": str(data), "crop": setting.side_px},
            "train": {"duration": f"{num_steps}it", "validate_every": f"{num_steps}it",
                      "batch_size": setting.batch_size, **keys},
        }
    )  # fmt: skip


def measure_loop(setting: Setting, folder: Path, data: Path, workers: int) -> dict[str, float]:
    """Return images/s of a whole training, its first third left out, and of the same step alone."""
    ends_s: list[float] = []

    def listen(event: dict[str, Any]) -> None:
        if event["kind"] == "train":
            ends_s.append(time.perf_counter())

    recipe = build_loop_recipe(setting, data, setting.loop_steps, workers=workers, compile="off")
    train(recipe, folder, listener=listen)
    ends_s = ends_s[setting.loop_steps // 3 :]
    step, learner = build_atrous_step(build_batch(setting), setting, 16, optimizer="adamw")

    block = partial(run_block, step, setting, learner.fabric.device)
    alone_s = statistics.median(measure_times_s([block])[0]) / setting.steps
    return {
        "workers": workers,
        "images_per_s": setting.batch_size * (len(ends_s) - 1) / (ends_s[-1] - ends_s[0]),
        "step_alone_images_per_s": setting.batch_size / alone_s,
    }


def measure_evaluation(setting: Setting, data: Path) -> dict[str, float]:
    """Return images/s of a validation of images of many sizes."""
    _, learner = build_atrous_step(build_batch(setting), setting, 16)
    validation = learner.validate(open_dataset(data, "val"), lambda done, total: None)
    return {"images_per_s": setting.num_images / validation.seconds}


def check_resume(setting: Setting, folder: Path, data: Path) -> dict[str, bool]:
    """Train at once and in two sessions, deterministically, and compare the weights' bytes."""
    recipe = build_loop_recipe(setting, data, 4, deterministic=True, compile="off")
    train(recipe, folder / "whole")
    train(recipe, folder / "parts", stop_after="2it")
    train(recipe, folder / "parts")
    torch.use_deterministic_algorithms(False)
    hashes = {
        sha256((folder / name / "last.safetensors").read_bytes()).hexdigest()
        for name in ("whole", "parts")
    }
    return {"equal": len(hashes) == 1}


def format_tables(figures: dict[str, Any]) -> Iterator[str]:
    yield f"{figures['device']}, torch {figures['torch']}, {figures['date']}\n"
    yield "| step | ms | images/s | TFLOP/s | memory, GiB |\n|---|---|---|---|---|"
    for label, row in figures["steps"].items():
        yield (
            f"| {label} | {row['ms_per_step']:.1f} | {row['images_per_s']:.0f} | "
            f"{row['tflops']:.0f} | {row['peak_gib']:.1f} |"
        )
    yield f"| bf16 matrix product | | | {figures['matrix_tflops']:.0f} | |\n"
    yield "| kernels at stride 16 | share |\n|---|---|"
    yield from (f"| `{name}` | {share:.1%} |" for name, share in figures["kernels"].items())
    loop, evaluation = figures["loop"], figures["evaluation"]
    yield (
        f"\nTraining with {loop['workers']} workers: {loop['images_per_s']:.0f} images/s; the step "
        f"alone: {loop['step_alone_images_per_s']:.0f}. Evaluation of images of many sizes: "
        f"{evaluation['images_per_s']:.0f} images/s. Resumed weights equal in every bit: "
        f"{'yes' if figures['resume']['equal'] else 'no'}."
    )


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("gpu-figures"))
    parser.add_argument("--workers", type=int, default=14)
    parser.add_argument("--small", action="store_true", help="sizes for a CPU")
    args = parser.parse_args(arguments)
    setting, device = (SMALL if args.small else FULL), resolve_device("auto")
    is_cuda = device.type == "cuda"
    args.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        data = write_images(folder / "data", setting, mixed=False)
        mixed = write_images(folder / "mixed", setting, mixed=True)
        figures = {
            "device": torch.cuda.get_device_name() if is_cuda else "CPU",
            "torch": torch.__version__,
            "date": date.today().isoformat(),
            "setting": setting._asdict(),
            "resume": check_resume(setting, folder / "resume", data),
            "loop": measure_loop(setting, folder / "loop", data, args.workers),
            "evaluation": measure_evaluation(setting, mixed),
            "kernels": measure_kernels(setting, device),
            "matrix_tflops": measure_matrix_peak(device),
            "steps": measure_steps(setting, device),
        }
    (args.out / "figures.json").write_text(json.dumps(figures, indent=2), encoding="utf-8")
    text = "\n".join(format_tables(figures))
    (args.out / "figures.md").write_text(text + "\n", encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
