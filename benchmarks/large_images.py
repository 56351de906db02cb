"""Training on photographs of 12 megapixels, from the files and from the cache of decoded images, in
turns.

    python benchmarks/large_images.py [--images 24] [--side 3464] [--steps 8] [--rounds 2]
"""

import argparse
import platform
import statistics
import tempfile
import time
from contextlib import closing
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from atrous.data import SegmentationDataset, compute_mask_statistics, open_dataset
from atrous.data.shapes import write_shapes
from atrous.files import format_bytes
from atrous.recipe import Recipe, build_recipe
from atrous.timing import measure_times_s
from atrous.training.batches import cache_samples, load_batches
from atrous.training.learner import Learner


def enlarge(folder: Path, side: int) -> None:
    """Resize all images and masks, and add noise to the images, as photographs have it."""
    generator = np.random.default_rng(0)
    for path in folder.rglob("*.jpg"):
        pixels = np.asarray(Image.open(path).resize((side, side), Image.Resampling.BICUBIC))
        noise = generator.integers(-8, 9, pixels.shape)
        Image.fromarray((pixels + noise).clip(0, 255).astype(np.uint8)).save(path, quality=90)
    for path in folder.rglob("*.png"):
        Image.open(path).resize((side, side), Image.Resampling.NEAREST).save(path)


def run_steps(
    recipe: Recipe, num_steps: int, learner: Learner | None, dataset: SegmentationDataset
) -> None:
    """Train on batches, or only read them."""
    with closing(load_batches(recipe, dataset, first_step=0, num_steps=num_steps)) as batches:
        for step in range(num_steps):
            if learner is None:
                next(batches)
            else:
                learner.update(batches, step=step, lr=1e-3).read()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=24)
    parser.add_argument("--side", type=int, default=3464)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=2)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write_shapes(folder / "data", num_train=options.images, num_val=1, size_px=433)
        enlarge(folder / "data", options.side)
        recipe = build_recipe(
            {
                "model": {
                    "name": "deeplabv3plus_efficientnet_lite0",
                    "separable": True,
                    "decoder_channels": 128,
                },
                "data": {
                    "root": str(folder / "data"),
                    "long_side": 512,
                    "crop": 320,
                    "scale": [0.5, 1.5],
                    **dict.fromkeys(["brightness", "contrast", "saturation"], 0.3),
                },
                "train": {"precision": "32", "workers": 2},
            }
        )
        files = open_dataset(recipe.data.root, "train")
        cached = cache_samples(files, recipe.data, folder / "cache")
        assert cached.cache is not None, (
            "images are too small, or the disk is too full, for a cache"
        )
        seconds = []
        for dataset in (files, cached):
            started_s = time.perf_counter()
            compute_mask_statistics(dataset)
            seconds.append(time.perf_counter() - started_s)
        learner = Learner(recipe, files.classes, None)
        print(f"{options.images} images of {options.side} x {options.side}, batches of 8 crops of")
        print(f"320 x 320, {torch.get_num_threads()} threads, 2 workers, {platform.machine()}")
        print(f"cache: {format_bytes(cached.cache.num_bytes)}")
        print("reading the dataset before training, without and with filling the cache:")
        print(f"    {seconds[0]:.1f} s, {seconds[1]:.1f} s")
        for name, learns in (("reading", None), ("training", learner)):
            runs = [
                partial(run_steps, recipe, options.steps, learns, one) for one in (files, cached)
            ]
            times_s = measure_times_s(runs, min_rounds=options.rounds, max_rounds=options.rounds)
            old, new = (statistics.median(one) / options.steps for one in times_s)
            print(f"{name}: files {old:.2f}, cache {new:.2f} s per batch, {old / new:.1f} times")


if __name__ == "__main__":
    main()
