"""What a training step takes in memory: worked out by `atrous inspect`, and measured.

    python benchmarks/memory.py --models deeplabv3_resnet18 --size 256 --batches 2,4,8

Each measurement is a process of its own that does three steps of `atrous train`; on a CPU it is the
growth of its resident memory, on a GPU what its allocator says.
"""

import argparse
import ctypes
import gc
import json
import logging
import subprocess
import sys
from itertools import product
from pathlib import Path

import torch

from atrous.classes import build_classes
from atrous.data import Batch
from atrous.inspect.fits import compute_overhead_bytes
from atrous.inspect.memory import compute_training_peak
from atrous.models import build_model
from atrous.recipe import build_recipe
from atrous.training.learner import Learner

NUM_CLASSES = 21
NUM_STEPS = 3


def read_status_bytes(key: str) -> int:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(f"{key}:"))


def build_batch(batch_size: int, size: int) -> Batch:
    image = torch.randint(256, (batch_size, size, size, 3), dtype=torch.uint8).movedim(3, 1)
    mask = torch.randint(NUM_CLASSES, (batch_size, size, size), dtype=torch.uint8)
    return Batch(image, mask, ["random"] * batch_size)


def build_learner(name: str, settings: dict[str, object]) -> Learner:
    recipe = build_recipe({"model": {"name": name}, "train": settings})
    return Learner(recipe, build_classes([str(index) for index in range(NUM_CLASSES)]), None)


def measure(request: dict) -> int:
    """Train in this process and return by how many bytes its memory grew at the worst moment."""
    torch.set_num_threads(request["num_threads"])
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    settings = request["settings"]
    batch = build_batch(request["batch_size"], request["size"])
    # A step of a small model first: it brings the libraries into memory.
    small = build_learner("deeplabv3_mobilenet_v3_large", settings)
    small.update(iter([build_batch(2, 32)]), step=0, lr=1e-3)
    del small
    gc.collect()
    # What the small one has given back must not be there for the taking.
    ctypes.CDLL(None).malloc_trim(0)
    is_cuda = settings["device"] != "cpu"
    if is_cuda:
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
    else:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
        before = read_status_bytes("VmRSS")
    learner = build_learner(request["name"], settings)
    for step in range(NUM_STEPS):
        with learner.fabric.autocast():
            learner.update(iter([batch]), step=step, lr=1e-3)
    return (torch.cuda.max_memory_allocated() if is_cuda else read_status_bytes("VmHWM")) - before


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", default="deeplabv3_resnet18")
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--batches", default="2,4,8")
    parser.add_argument("--precisions", default="32,bf16")
    parser.add_argument("--optimizers", default="adamw,sgd")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--request", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.request:
        print(measure(json.loads(args.request)))
        return
    print(f"{'model':28}{'precision':>10}{'optimizer':>10}{'batch':>6}{'worked out':>12} measured")
    options = (args.models, args.precisions, args.optimizers, args.batches)
    for name, precision, optimizer, batch_size in product(*(text.split(",") for text in options)):
        request = {
            "name": name,
            "size": args.size,
            "batch_size": int(batch_size),
            "num_threads": torch.get_num_threads(),
            "settings": {"precision": precision, "optimizer": optimizer, "device": args.device},
        }
        child = [sys.executable, __file__, "--request", json.dumps(request)]
        measured = int(subprocess.run(child, stdout=subprocess.PIPE, check=True).stdout)
        with torch.device("meta"):
            model = build_model(name, num_classes=NUM_CLASSES)
        expected = compute_overhead_bytes(model) + compute_training_peak(
            model,
            (args.size, args.size),
            batch_size=int(batch_size),
            precision=precision,
            optimizer=optimizer,
        )
        print(
            f"{name:28}{precision:>10}{optimizer:>10}{batch_size:>6}{expected / 1e6:>9.0f} MB"
            f"{measured / 1e6:>7.0f} MB {expected / measured - 1:+.1%}",
            flush=True,
        )


if __name__ == "__main__":
    main()
