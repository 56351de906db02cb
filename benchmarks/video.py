"""Frames per second of DeepLabv3 with MobileNetV3: the network alone, and from video to video.

    python benchmarks/video.py [--sizes 256,513] [--frames 120] [--precision 32] [--json FILE]

The clip is generated, and the weights are random.
"""

import argparse
import json
import platform
import statistics
import tempfile
import time
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch

from atrous.classes import VOC_NAMES, build_classes
from atrous.cli.allocator import keep_freed_memory
from atrous.engines import TorchEngine
from atrous.images import IMAGENET_MEAN, IMAGENET_STD
from atrous.models import ModelCard, build_model
from atrous.prediction import predict
from atrous.prediction.video import open_video
from atrous.timing import measure_times_s


def build_clip(path, size_px, num_frames):
    """Write a clip of a disc that moves over a pattern."""
    rows, columns = np.mgrid[:size_px, :size_px]
    background = np.stack([rows % 64 * 3, columns % 64 * 3, (rows + columns) % 128], axis=2)
    with open_video(path, Fraction(30)) as video:
        for index in range(num_frames):
            pixels = background.astype(np.uint8)
            middle = size_px * (index + 1) / (num_frames + 1)
            pixels[(rows - size_px / 2) ** 2 + (columns - middle) ** 2 < size_px**2 / 30] = 230
            video.write(pixels, index / 30)


def build_mobilenet(output_stride):
    model = build_model(
        "deeplabv3_mobilenet_v3_large", num_classes=21, output_stride=output_stride
    ).eval()
    classes = build_classes(VOC_NAMES)
    model.card = ModelCard(
        model.name, model.options, classes, IMAGENET_MEAN, IMAGENET_STD, None, {}
    )
    return model


def time_network(engine, size_px, num_rounds):
    """Return the median seconds from an image in memory to its mask."""
    image = torch.randint(0, 256, (size_px, size_px, 3), dtype=torch.uint8).permute(2, 0, 1)
    (times_s,) = measure_times_s(
        [lambda: engine.predict_mask(image).cpu()], min_rounds=num_rounds, max_rounds=num_rounds
    )
    return statistics.median(times_s)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", default="256,513")
    parser.add_argument("--frames", type=int, default=120)
    parser.add_argument("--output-stride", type=int, default=16)
    parser.add_argument("--precision", default="32")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    keep_freed_memory()  # as the command does
    model = build_mobilenet(arguments.output_stride)
    engine = TorchEngine(model, precision=arguments.precision)
    rows = []
    for size_px in map(int, arguments.sizes.split(",")):
        network_s = time_network(engine, size_px, min(40, arguments.frames))
        row = {"size_px": size_px, "network": 1 / network_s}
        with tempfile.TemporaryDirectory() as folder:
            clip = Path(folder) / "clip.mp4"
            build_clip(clip, size_px, arguments.frames)
            for name, save in (("video to masks", ["mask"]), ("video to overlays", ["overlay"])):
                start_s = time.perf_counter()
                out = Path(folder) / "out"
                predict(model, clip, out, save=save, precision=arguments.precision)
                row[name] = arguments.frames / (time.perf_counter() - start_s)
        rows.append(row)
    print(f"{model.name}, output stride {arguments.output_stride}, {engine.precision}, ", end="")
    print(f"{arguments.threads} threads, torch {torch.__version__}, {platform.machine()}")
    print("frames/s" + "".join(f"{name:>20}" for name in rows[0] if name != "size_px"))
    for row in rows:
        values = "".join(f"{row[name]:20.1f}" for name in row if name != "size_px")
        print(f"{row['size_px']:>8}{values}")
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
