"""An epoch of training: nothing frozen, a frozen part, and its features cached on disk.

python benchmarks/frozen.py [--model deeplabv3_resnet50] [--freeze all-but-classifier] [--size 256]

Each epoch reads the same images of the sample dataset; validation is not included.
"""

import argparse
import platform
import statistics
import tempfile
import time
from pathlib import Path

import torch

from atrous.data import open_dataset
from atrous.data.shapes import write_shapes
from atrous.recipe import Recipe, build_recipe
from atrous.training.batches import load_batches
from atrous.training.features import FeatureCache, format_bytes
from atrous.training.learner import Learner


def build(args: argparse.Namespace, **changes: str) -> Recipe:
    return build_recipe(
        {
            "model": {"name": args.model, "freeze": changes.get("freeze", "none")},
            "data": {"size": args.size},
            "train": {
                "batch_size": args.batch_size,
                "precision": args.precision,
                "workers": 0,
                "feature_cache": changes.get("feature_cache", "off"),
            },
        }
    )


def time_epochs(
    label: str, recipe: Recipe, data: Path, num_epochs: int
) -> tuple[float, dict[str, torch.Tensor]]:
    """Return the median time per epoch after the first, and the final weights."""
    dataset = open_dataset(data, "train")
    learner = Learner(recipe, dataset.classes, None)
    num_steps = len(dataset) // recipe.train.batch_size
    span = {"first_step": 0, "num_steps": num_epochs * num_steps}
    if learner.cut is None:
        batches = load_batches(recipe, dataset, **span)
    else:
        learner.frozen.seal(learner.model)
        cache = FeatureCache(
            recipe,
            data / "features",
            dataset,
            cut=learner.cut,
            compute=learner.compute_features,
            frozen_sha256=learner.frozen.sha256,
        )
        started_s = time.perf_counter()
        cache.build(should_stop=lambda: False, progress=lambda done, total: None)
        print(
            f"{'features of ' + str(len(dataset)) + ' images':28s} "
            f"{time.perf_counter() - started_s:7.2f} s once, {format_bytes(cache.num_bytes)}, "
            f"all before the {learner.cut.place}"
        )
        batches = cache.load_batches(**span)
    times_s, cpu_times_s = [], []
    for epoch in range(num_epochs):
        started_s, cpu_started_s = time.perf_counter(), time.process_time()
        for step in range(num_steps):
            learner.update(batches, step=epoch * num_steps + step, lr=1e-3).read()
        times_s.append(time.perf_counter() - started_s)
        cpu_times_s.append(time.process_time() - cpu_started_s)
    median_s, cpu_s = statistics.median(times_s[1:]), statistics.median(cpu_times_s[1:])
    print(
        f"{label:28s} {median_s:7.2f} s/epoch  {1000 * median_s / num_steps:7.0f} ms/step"
        f"  {1000 * cpu_s / num_steps:7.0f} ms of CPU/step"
    )
    return median_s, {name: value.clone() for name, value in learner.model.state_dict().items()}


def compute_distance(
    one: dict[str, torch.Tensor], other: dict[str, torch.Tensor], first: dict[str, torch.Tensor]
) -> float:
    """Return the distance between two final weights, relative to the change from the first."""
    names = [name for name in first if first[name].is_floating_point()]
    difference = sum((one[name] - other[name]).double().square().sum() for name in names)
    change = sum((one[name] - first[name]).double().square().sum() for name in names)
    return float((difference / change).sqrt())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="deeplabv3_resnet50")
    parser.add_argument("--freeze", default="all-but-classifier")
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--precision", default="bf16")
    parser.add_argument("--images", type=int, default=16)
    parser.add_argument("--epochs", type=int, default=4)
    args = parser.parse_args()
    print(f"{args.model}, batch {args.batch_size} of {args.size}x{args.size}, {args.precision},")
    print(f"{torch.get_num_threads()} threads, torch {torch.__version__}, {platform.machine()}")
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder)
        write_shapes(data, num_train=args.images, num_val=1, size_px=args.size)
        frozen = build(args, freeze=args.freeze)
        cached = build(args, freeze=args.freeze, feature_cache="auto")
        classes = open_dataset(data, "train").classes
        first = Learner(frozen, classes, None).model.state_dict()
        unfrozen_s, _ = time_epochs("nothing frozen", build(args), data, args.epochs)
        frozen_s, frozen_weights = time_epochs(f"{args.freeze} frozen", frozen, data, args.epochs)
        cached_s, cached_weights = time_epochs("… with cached features", cached, data, args.epochs)
    print(
        f"{frozen_s / cached_s:.1f} times as fast as frozen, "
        f"{unfrozen_s / cached_s:.1f} times as fast as unfrozen"
    )
    distance = compute_distance(frozen_weights, cached_weights, first)
    print(f"distance of the final weights: {distance:.2%}")


if __name__ == "__main__":
    main()
