"""Time of a training step: torchvision's model in a plain loop and atrous, in turns.

python benchmarks/training.py [--backbone resnet50] [--size 256] [--batch-size 4] [--rounds 7]
"""

import argparse
import itertools
import json
import platform
import statistics
from collections.abc import Callable

import torch
from torch.nn import functional as F
from torchvision.models import segmentation

from atrous.classes import build_classes
from atrous.data import Batch
from atrous.images import normalize
from atrous.recipe import build_recipe
from atrous.timing import measure_times_s
from atrous.training.learner import Learner

NUM_CLASSES = 21


def build_torchvision_step(name: str, batch: Batch) -> Callable[[], object]:
    """Build a float32 step like that of torchvision's reference script."""
    model = segmentation.__dict__[name](
        weights=None, weights_backbone=None, num_classes=NUM_CLASSES, aux_loss=False
    ).train()
    optimizer = torch.optim.AdamW(model.parameters())

    def step() -> None:
        image = normalize(batch.image).contiguous()
        loss = F.cross_entropy(model(image)["out"], batch.mask.long(), ignore_index=255)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


def build_atrous_step(name: str, batch: Batch, precision: str) -> Callable[[], object]:
    # torchvision: output stride 8 for ResNets, 16 for MobileNet; rates 12, 24, 36 for both.
    options = {"atrous_rates": (12, 24, 36), "output_stride": 16 if "mobile" in name else 8}
    recipe = build_recipe(
        {
            "model": {"name": name, **options},
            "train": {"precision": precision, "batch_size": len(batch.names)},
        }
    )
    learner = Learner(recipe, build_classes([str(i) for i in range(NUM_CLASSES)]), None)
    batches = itertools.repeat(batch)
    return lambda: learner.update(batches, step=0, lr=1e-3).read()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--backbone", default="resnet50")
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", help="write the results to this file")
    args = parser.parse_args()
    name, size = f"deeplabv3_{args.backbone}", args.size
    batch = Batch(
        torch.randint(256, (args.batch_size, size, size, 3), dtype=torch.uint8).movedim(3, 1),
        torch.randint(NUM_CLASSES, (args.batch_size, size, size), dtype=torch.uint8),
        ["random"] * args.batch_size,
    )
    steps = {
        "torchvision float32": build_torchvision_step(name, batch),
        "atrous float32": build_atrous_step(name, batch, "32"),
        "atrous bf16": build_atrous_step(name, batch, "bf16"),
    }
    times_s = measure_times_s(list(steps.values()), min_rounds=args.rounds, max_rounds=args.rounds)
    seconds = dict(zip(steps, times_s, strict=True))
    medians = {label: statistics.median(times) for label, times in seconds.items()}
    base = medians["torchvision float32"]
    print(f"{name}, batch {args.batch_size} of {size}x{size}, {torch.get_num_threads()} threads,")
    print(f"torch {torch.__version__}, {platform.processor() or platform.machine()}")
    for label, median in medians.items():
        print(f"{label:22s} {median:7.3f} s/step   {base / median:5.2f} x")
    if args.json:
        with open(args.json, "w", encoding="utf-8") as file:
            json.dump({"median_s": medians, "all_s": seconds, "args": vars(args)}, file, indent=2)


if __name__ == "__main__":
    main()
