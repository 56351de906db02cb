"""Time of a training step with dilated depthwise convolutions as torch computes them, and phase by
phase, in turns.

    python benchmarks/depthwise.py [--model NAME] [--size 256] [--batch-size 8] [--rounds 7]
"""

import argparse
import itertools
import statistics

import torch
from torch import nn

from atrous.classes import build_classes
from atrous.data import Batch
from atrous.models.depthwise import DilatedDepthwiseConv2d
from atrous.recipe import build_recipe
from atrous.timing import measure_times_s
from atrous.training.learner import Learner

NUM_CLASSES = 11


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="deeplabv3plus_efficientnet_lite0")
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    size, number = options.size, options.batch_size
    batch = Batch(
        torch.randint(256, (number, size, size, 3), dtype=torch.uint8).movedim(3, 1),
        torch.randint(NUM_CLASSES, (number, size, size), dtype=torch.uint8),
        ["random"] * number,
    )
    model = {"name": options.model, "separable": True, "decoder_channels": 128}
    recipe = build_recipe({"model": model, "train": {"batch_size": number}})
    steps, batches = [], itertools.repeat(batch)
    for by_phases in (False, True):
        learner = Learner(recipe, build_classes([str(i) for i in range(NUM_CLASSES)]), None)
        for module in learner.model.modules():
            if isinstance(module, DilatedDepthwiseConv2d) and not by_phases:
                module.__class__ = nn.Conv2d
        steps.append(lambda learner=learner: learner.update(batches, step=0, lr=1e-3).read())
    times_s = measure_times_s(steps, min_rounds=options.rounds, max_rounds=options.rounds)
    dilated, phases = map(statistics.median, times_s)
    print(f"{options.model}, batch {number} of {size}x{size}, {torch.get_num_threads()} threads:")
    print(f"dilated {dilated:.3f} s, by phases {phases:.3f} s per step, {dilated / phases:.2f} x")


if __name__ == "__main__":
    main()
