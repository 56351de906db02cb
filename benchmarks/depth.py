"""mIoU of 12-bit images at their own depth, and with their high byte only.

    python benchmarks/depth.py [--steps 150] [--seed 0]

The images are the drawn scenes of `atrous data shapes` in grey, as a 12-bit camera saves them in
16-bit PNGs: values from 400 to 1420 of 4095, with noise of standard deviation 4. Their high byte,
which is what reading them as 8-bit images keeps, has five levels; stretched, these fill 0 to 255.
"""

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from atrous import train
from atrous.data.classes_file import format_classes
from atrous.data.shapes import SHAPES, draw_scene
from atrous.recipe import build_recipe
from atrous.training.suggest import suggest_recipe

NUM_IMAGES = {"train": 160, "val": 40}
SIDE_PX = 96
VARIANTS = {
    "own depth": lambda deep: deep,
    "high byte": lambda deep: (deep >> 8).astype(np.uint8),
    "high byte, stretched": lambda deep: (63 * ((deep >> 8) - 1.0)).clip(0, 255).astype(np.uint8),
}


def write(folder: Path, seed: int, convert: Callable[[np.ndarray], np.ndarray]) -> None:
    for split, num_images in NUM_IMAGES.items():
        for kind in ("images", "masks"):
            (folder / split / kind).mkdir(parents=True)
        for index in range(num_images):
            rng = np.random.default_rng((seed, split == "val", index))
            scene, mask = draw_scene(rng, SIDE_PX)
            grey = scene.mean(axis=2)
            deep = (400 + 4 * grey + rng.normal(0, 4, grey.shape)).round().astype(np.uint16)
            Image.fromarray(convert(deep)).save(folder / split / f"images/{index:03}.png")
            Image.fromarray(mask).save(folder / split / f"masks/{index:03}.png")
    (folder / "classes.toml").write_text(format_classes(SHAPES))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    for label, convert in VARIANTS.items():
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder) / "data"
            write(root, options.seed, convert)
            values = suggest_recipe(root)
            for key in ("saturation", "hue", "long_side"):  # the same for all
                values["data"].pop(key, None)
            values["data"] |= {"root": str(root), "crop": 64}
            every = f"{max(1, options.steps // 3)}it"
            values["train"] |= {
                "duration": f"{options.steps}it", "validate_every": every, "workers": 0,
                "warmup": "20it", "seed": options.seed, "device": "cpu", "precision": "32",
            }  # fmt: skip
            result = train(build_recipe(values), Path(folder) / "run")
            print(f"{label}: best mIoU {result.best_miou:.3f}", flush=True)


if __name__ == "__main__":
    main()
