"""Memory and time of a training step with many classes: the loss image by image, as `atrous train`
computes it, and of all images at once.

    python benchmarks/many_classes.py [--classes 150] [--size 513] [--batch-size 8] [--rounds 3]

On a CPU, the memory is that of the process beyond its start; on a GPU, the allocated memory.
"""

import argparse
import itertools
import statistics
import sys
from functools import partial

import torch

from atrous.classes import build_classes
from atrous.data import Batch
from atrous.profile.process import read_process_bytes
from atrous.recipe import build_recipe
from atrous.timing import measure_times_s
from atrous.training import losses
from atrous.training.learner import Learner


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="deeplabv3plus_efficientnet_lite0")
    parser.add_argument("--classes", type=int, default=150)
    parser.add_argument("--size", type=int, default=513)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    size, number, num_classes = options.size, options.batch_size, options.classes
    batch = Batch(
        torch.randint(256, (number, size, size, 3), dtype=torch.uint8).movedim(3, 1),
        torch.randint(num_classes, (number, size, size), dtype=torch.uint8),
        ["random"] * number,
    )
    model = {"name": options.model, "separable": True, "decoder_channels": 128}
    precision = "auto" if torch.cuda.is_available() else "32"
    recipe = build_recipe(
        {"model": model, "loss": {"dice": 1.0}, "train": {"precision": precision}}
    )
    learner = Learner(recipe, build_classes([f"class {i}" for i in range(num_classes)]), None)
    batches, is_cuda = itertools.repeat(batch), torch.cuda.is_available()

    def step(max_logits: int) -> None:
        losses._MAX_LOGITS = max_logits
        learner.update(batches, step=0, lr=1e-3).read()

    def read_peak_bytes() -> int:
        return torch.cuda.max_memory_allocated() if is_cuda else read_process_bytes("VmHWM")

    start = 0 if is_cuda else read_process_bytes("VmRSS")
    print(f"{options.model}, {num_classes} classes, batch {number} of {size}x{size},")
    print(f"{torch.get_num_threads()} threads, torch {torch.__version__}")
    limits = {"image by image": losses._MAX_LOGITS, "at once": sys.maxsize}
    peaks = []
    for limit in limits.values():  # the smaller peak first
        step(limit)
        peaks.append((read_peak_bytes() - start) / 2**30)
    times_s = measure_times_s(
        [partial(step, limit) for limit in limits.values()],
        min_rounds=options.rounds,
        max_rounds=options.rounds,
    )
    for name, peak, one in zip(limits, peaks, times_s, strict=True):
        print(f"{name:14s} {peak:5.2f} GiB  {statistics.median(one):6.2f} s per step")


if __name__ == "__main__":
    main()
