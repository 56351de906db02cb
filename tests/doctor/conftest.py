"""A small clean dataset in both layouts, made once, and copied for every damage."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from damage import COLORS
from PIL import Image

from atrous.doctor import check_dataset
from atrous.recipe import DataRecipe

NUM_TRAIN, NUM_VAL = 24, 8
WIDTH, HEIGHT = 112, 96
NAMES = ["ground", "disc", "box", "bar"]


def draw_pair(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw smooth ground with a disc, a box and a bar of any colours, and their mask."""
    rng = np.random.default_rng(seed)
    cells = Image.fromarray(rng.integers(60, 160, (5, 6, 3), np.uint8))
    image = np.asarray(cells.resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC)).copy()
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    for index in (1, 2, 3):
        cy, cx, r = rng.uniform(20, HEIGHT - 20), rng.uniform(20, WIDTH - 20), rng.uniform(12, 20)
        dy, dx = np.abs(y - cy), np.abs(x - cx)
        inside = (
            dy * dy + dx * dx < r * r,
            np.maximum(dy, dx) < 0.8 * r,
            (dy < 0.35 * r) & (dx < 1.4 * r),
        )[index - 1]
        mask[inside] = index
        image[inside] = rng.choice([20, 235], 3)
    noise = rng.normal(0, 3, image.shape)
    return (image + noise).clip(0, 255).astype(np.uint8), mask


def write_clean(root: Path, layout: str) -> None:
    for number in range(NUM_TRAIN + NUM_VAL):
        split = "train" if number < NUM_TRAIN else "val"
        image, mask = draw_pair(number)
        folders = ("JPEGImages", "SegmentationClass")
        if layout == "pairs":
            folders = (f"{split}/images", f"{split}/masks")
        paths = [
            root / folder / f"p{number:02}{suffix}"
            for folder, suffix in zip(folders, (".jpg", ".png"), strict=True)
        ]
        for path in paths:
            path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(paths[0], quality=92)
        palette = Image.fromarray(mask)
        palette.putpalette([channel for color in COLORS for channel in color])
        palette.save(paths[1])
        if layout == "voc":
            lists = root / "ImageSets/Segmentation"
            lists.mkdir(parents=True, exist_ok=True)
            with open(lists / f"{split}.txt", "a") as file:
                file.write(f"p{number:02}\n")
    (root / "classes.toml").write_text(
        f"names = {NAMES}\ncolors = {[list(color) for color in COLORS]}\n"
    )


@pytest.fixture(scope="session")
def clean_sets(tmp_path_factory) -> dict[str, Path]:
    folders = {}
    for layout in ("pairs", "voc"):
        folders[layout] = tmp_path_factory.mktemp(f"clean-{layout}")
        write_clean(folders[layout], layout)
    return folders


@pytest.fixture
def make_clean(clean_sets, tmp_path):
    """Return a function that copies the clean set of a layout into a folder of the test."""

    def make(layout: str = "pairs", *, classes_file: bool = True) -> Path:
        root = tmp_path / "data"
        shutil.copytree(clean_sets[layout], root)
        if not classes_file:
            (root / "classes.toml").unlink()
        return root

    return make


@pytest.fixture
def check():
    """Check a folder in this process, with a crop that suits the small images."""

    def run(root: Path, names: Path | None = None, **options):
        data = DataRecipe(root=str(root), **{"crop": 96} | options)
        return check_dataset(data, names=names, workers=1)

    return run
