"""Latency from an image to its mask: torchvision and every engine, in turns in one process.

    python benchmarks/inference.py [--model NAME] [--size 513] [--rounds 15] [--json FILE]

All run the same weights on the same image, batch 1, from uint8 pixels to the class of each pixel.
Also measures the peak memory of each in a new process, the time from an image file to a mask file,
and the share of the peak speed of matrix multiplication in the same precision. `--video` adds
frames per second over different frames.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from torchvision.models import segmentation
from torchvision.transforms import functional as TF

from atrous.classes import VOC_NAMES, build_classes
from atrous.data.shapes import draw_scene
from atrous.engines import TTA, TorchEngine
from atrous.engines.export_records import load_records
from atrous.engines.fastest import describe_machine
from atrous.engines.open_engine import open_export
from atrous.errors import AtrousError
from atrous.export import export_model
from atrous.images import IMAGENET_MEAN, IMAGENET_STD, normalize, read_image
from atrous.models import ModelCard, build_model, load_model, load_weights, save_weights
from atrous.prediction.render import write_mask
from atrous.run import RunFolder
from atrous.timing import measure_times_s

BASE = "torchvision eager"
TARGETS = ("onnx", "openvino", "openvino-int8", "onnx-int8")
Segment = Callable[[torch.Tensor], torch.Tensor]


def build_torchvision(name: str, file: Path) -> nn.Module:
    model = segmentation.__dict__[name](
        weights=None, weights_backbone=None, num_classes=len(VOC_NAMES), aux_loss=False
    )
    if file.is_file():
        model.load_state_dict(torch.load(file, weights_only=True))
    return model.eval()


def prepare(folder: Path, name: str, size: int) -> None:
    """Write a dataset, weights for torchvision, and a run with the same weights."""
    for split, number in (("train", 8), ("val", 2)):
        for kind in ("images", "masks"):
            (folder / "data" / split / kind).mkdir(parents=True)
        for index in range(number):
            image, mask = draw_scene(np.random.default_rng(index + 100 * (split == "val")), size)
            Image.fromarray(image).save(folder / f"data/{split}/images/{index}.jpg", quality=95)
            Image.fromarray(mask.astype(np.uint8)).save(folder / f"data/{split}/masks/{index}.png")
    names = ", ".join(f'"{name}"' for name in VOC_NAMES)
    (folder / "data" / "classes.toml").write_text(f"names = [{names}]\n")
    torch.manual_seed(0)
    model = build_torchvision(name, Path())
    calibrate_random_weights(
        model, [read_image(folder / f"data/train/images/{i}.jpg") for i in range(4)]
    )
    torch.save(model.state_dict(), folder / "torchvision.pth")
    options = {"atrous_rates": (12, 24, 36), "output_stride": 16 if "mobile" in name else 8}
    atrous_model = build_model(name, num_classes=len(VOC_NAMES), **options)
    load_weights(atrous_model, folder / "torchvision.pth")
    card = ModelCard(
        name, atrous_model.options, build_classes(VOC_NAMES), IMAGENET_MEAN, IMAGENET_STD, None, {}
    )
    (folder / "run").mkdir()
    save_weights(folder / "run/best.safetensors", atrous_model, card)


def calibrate_random_weights(model: nn.Module, images: list[torch.Tensor]) -> None:
    """Set the batch norm statistics and scale the logits, to values as in trained models."""
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = None
    batch = normalize(torch.stack(images))
    with torch.no_grad():
        model.train()(batch)
        scale = 3 / model.eval()(batch)["out"].std()
        model.classifier[-1].weight.mul_(scale)
        model.classifier[-1].bias.mul_(scale)


def export_all(folder: Path) -> None:
    for target in TARGETS:
        try:
            report = export_model(
                folder / "run", target, data=folder / "data", num_calibration_images=8
            )
            for gate in report.gates.values():
                print(f"{report.record.name:28s} {gate.precision:5s}{gate.describe()}")
        except AtrousError as error:
            print(f"{target}: {error}")


def list_engines(folder: Path, name: str) -> dict[str, Callable[[], Segment]]:
    """Return functions that open the engines, by label."""

    def open_torchvision() -> Segment:
        model = build_torchvision(name, folder / "torchvision.pth")

        @torch.inference_mode()
        def segment(image: torch.Tensor) -> torch.Tensor:
            return model(normalize(image[None]).contiguous())["out"].argmax(1)[0]

        return segment

    def open_torch(precision: str) -> Segment:
        return TorchEngine(load_model(folder / "run"), precision=precision).predict_mask

    engines: dict[str, Callable[[], Segment]] = {BASE: open_torchvision}
    for precision in ("32", "bf16"):
        engines[f"torch {precision}"] = lambda precision=precision: open_torch(precision)
    run = RunFolder(folder / "run")
    for record in load_records(run).values():
        path = run.exports / record.files[0]
        for precision in record.gates:
            engines[f"{record.name} {precision}"] = lambda path=path, precision=precision: (
                open_export(
                    path,
                    tta=TTA(),
                    precision="bf16" if precision == "bf16" else "32",
                    trust=True,
                ).predict_mask
            )
    return engines


def measure(calls: dict[str, Callable[[], object]], num_rounds: int) -> dict[str, list[float]]:
    times_s = measure_times_s(list(calls.values()), min_rounds=num_rounds, max_rounds=num_rounds)
    return dict(zip(calls, times_s, strict=True))


def measure_peaks() -> dict[str, float]:
    """Return the peak operations per second of a matrix multiplication, by precision.

    In float32 and bf16, a 1x1 convolution is measured too: it runs in another library.
    """
    side, peaks = 2048, {}
    matrix = torch.randn(side, side)
    matrix_bf16 = matrix.bfloat16()
    matrix_int8 = torch.randint(-100, 100, (side, side), dtype=torch.int8)

    def convolve(values: torch.Tensor) -> Callable[[], object]:
        image = values.view(1, side, 64, 32).contiguous(memory_format=torch.channels_last)
        weight = values.view(side, side, 1, 1)
        return lambda: nn.functional.conv2d(image, weight)

    calls_by_precision: dict[str, list[Callable[[], object]]] = {
        "32": [lambda: matrix @ matrix, convolve(matrix)],
        "bf16": [lambda: matrix_bf16 @ matrix_bf16, convolve(matrix_bf16)],
        "int8": [lambda: torch._int_mm(matrix_int8, matrix_int8)],
    }
    with torch.inference_mode():
        for precision, calls in calls_by_precision.items():
            times_s = measure_times_s(calls, min_rounds=20, max_rounds=20)
            peaks[precision] = 2 * side**3 / min(map(min, times_s))
    return peaks


def count_operations(name: str, size: int) -> int:
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        model = segmentation.__dict__[name](
            weights=None, weights_backbone=None, num_classes=len(VOC_NAMES), aux_loss=False
        ).eval()
        model(torch.empty(1, 3, size, size))
    return counter.get_total_flops()


def measure_memory(folder: Path, name: str, label: str, image_path: Path) -> float:
    """Return the peak memory, in MB, of a new process that runs one engine."""
    command = [sys.executable, __file__, "--model", name, "--folder", str(folder)]
    command += ["--one", label, "--image", str(image_path)]
    process = subprocess.run(command, capture_output=True, text=True, check=False)
    return float(process.stdout.split()[-1]) if process.returncode == 0 else float("nan")


def run_one(folder: Path, name: str, label: str, image_path: Path) -> None:
    segment, image = list_engines(folder, name)[label](), read_image(image_path)
    for _ in range(2):
        segment(image)
    status = Path("/proc/self/status").read_text()  # getrusage includes the parent
    print(int(status.partition("VmHWM:")[2].split()[0]) / 1000)


def segment_file_with_torchvision(model: nn.Module, image_path: Path, target: Path) -> None:
    """Read, normalize, run, argmax and save, as in torchvision's documentation."""
    with Image.open(image_path) as opened, torch.inference_mode():
        pixels = TF.normalize(TF.to_tensor(opened.convert("RGB")), IMAGENET_MEAN, IMAGENET_STD)
        mask = model(pixels[None])["out"].argmax(1)[0].byte().numpy()
    Image.fromarray(mask).save(target)


def segment_file(segment: Segment, image_path: Path, target: Path) -> None:
    with open(target, "wb") as file:
        write_mask(file, segment(read_image(image_path)), build_classes(VOC_NAMES))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="deeplabv3_resnet50")
    parser.add_argument("--size", type=int, default=513)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, help="by default, those of torch")
    parser.add_argument("--only", help="labels of engines must contain one of: int8,bf16")
    parser.add_argument("--no-memory", action="store_true", help="skip the peak memory")
    parser.add_argument("--video", action="store_true", help="measure frames per second")
    parser.add_argument("--folder", type=Path, help="keep the exports here for the next call")
    parser.add_argument("--json", type=Path, help="write the results to this file")
    parser.add_argument("--image", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    if args.one:
        run_one(args.folder, args.model, args.one, args.image)
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.folder or Path(temporary)
        if not (folder / "run").is_dir():
            folder.mkdir(parents=True, exist_ok=True)
            prepare(folder, args.model, args.size)
            export_all(folder)
        figures = run_all(args, folder)
    if args.json:
        args.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


def run_all(args: argparse.Namespace, folder: Path) -> dict[str, object]:
    words = args.only.split(",") if args.only else [""]
    makers = {
        label: make
        for label, make in list_engines(folder, args.model).items()
        if label == BASE or any(word in label for word in words)
    }
    image_path = folder / "data/val/images/0.jpg"
    image = read_image(image_path)
    engines = {label: make() for label, make in makers.items()}
    seconds = measure(
        {label: lambda s=segment: s(image) for label, segment in engines.items()}, args.rounds
    )
    medians = {label: statistics.median(times) for label, times in seconds.items()}
    fastest = min(medians.keys() - {BASE}, key=lambda label: medians[label])
    eager = build_torchvision(args.model, folder / "torchvision.pth")
    files = measure(
        {
            BASE: lambda: segment_file_with_torchvision(eager, image_path, folder / "a.png"),
            fastest: lambda: segment_file(engines[fastest], image_path, folder / "b.png"),
        },
        args.rounds,
    )
    peaks, operations = measure_peaks(), count_operations(args.model, args.size)
    expected = engines[BASE](image)
    rows = []
    for label, median in medians.items():
        precision = next((p for p in ("int8", "bf16") if p in label), "32")
        rows.append(
            {
                "engine": label,
                "median_s": median,
                "min_s": min(seconds[label]),
                "times_faster": medians[BASE] / median,
                "share_of_peak": operations / median / peaks[precision],
                "same_pixels": float((engines[label](image) == expected).float().mean()),
                "peak_memory_mb": None
                if args.no_memory
                else measure_memory(folder, args.model, label, image_path),
            }
        )
    figures: dict[str, object] = {
        "machine": describe_machine(),
        "model": args.model,
        "size_px": args.size,
        "rounds": args.rounds,
        "operations": operations,
        "peak_operations_per_s": peaks,
        "engines": rows,
        "file_to_mask_s": {label: statistics.median(times) for label, times in files.items()},
        "all_s": seconds,
    }
    if args.video:
        figures["frames_per_s"] = measure_video(engines, args.size)
    print_figures(figures)
    return figures


def measure_video(engines: dict[str, Segment], size: int, num_frames: int = 60) -> dict[str, float]:
    """Return frames per second over different frames in memory."""
    scene, _ = draw_scene(np.random.default_rng(7), 2 * size)
    frames = [
        torch.from_numpy(scene[shift : shift + size, shift : shift + size].copy()).permute(2, 0, 1)
        for shift in range(0, size, max(1, size // num_frames))
    ][:num_frames]
    rates = {}
    for label, segment in engines.items():
        start_s = time.perf_counter()
        for frame in frames:
            segment(frame)
        rates[label] = len(frames) / (time.perf_counter() - start_s)
    return rates


def print_figures(figures: dict) -> None:
    machine = figures["machine"]
    print(f"\n{figures['model']}, {figures['size_px']}×{figures['size_px']}, batch 1, "
          f"{figures['operations'] / 1e9:.0f} Gop, {machine['threads']} threads")  # fmt: skip
    print(f"{machine['processor']}, {machine['versions']}")
    for precision, peak in figures["peak_operations_per_s"].items():
        print(f"matrix multiplication {precision:5s}{peak / 1e9:8.0f} Gop/s")
    heading = f"{'engine':34s}{'median':>9s}{'faster':>8s}{'of peak':>9s}{'memory':>10s}"
    print(f"{heading}{'same pixels':>13s}")
    for row in figures["engines"]:
        memory = row["peak_memory_mb"]
        print(
            f"{row['engine']:34s}{1000 * row['median_s']:6.0f} ms{row['times_faster']:7.2f}x"
            f"{row['share_of_peak']:9.0%}"
            f"{'–' if memory is None else f'{memory:.0f} MB':>10s}{row['same_pixels']:13.3%}"
        )
    files = figures["file_to_mask_s"]
    for label, seconds in files.items():
        print(f"file to mask on disk, {label}: {1000 * seconds:.0f} ms "
              f"({files[BASE] / seconds:.2f}x)")  # fmt: skip
    for label, rate in figures.get("frames_per_s", {}).items():
        print(f"{rate:8.1f} frames/s  {label}")


if __name__ == "__main__":
    main()
