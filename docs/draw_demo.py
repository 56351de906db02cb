"""Draw the image at the top of the README: python docs/draw_demo.py RUN IMAGE.png"""

import sys
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from atrous import load_model
from atrous.classes import IGNORE_INDEX, Classes
from atrous.data import open_dataset
from atrous.engines import TorchEngine
from atrous.recipe import load_recipe
from atrous.run import RunFolder

NUM_IMAGES = 7


def color_mask(mask: np.ndarray, classes: Classes) -> np.ndarray:
    colors = np.full((IGNORE_INDEX + 1, 3), 255, np.uint8)
    colors[: len(classes)] = classes.colors
    return colors[mask]


def main(run: Path, path: Path) -> None:
    data = load_recipe(RunFolder(run).recipe).data
    dataset, engine = open_dataset(data.root, data.val_split), TorchEngine(load_model(run))
    figure = Figure(figsize=(NUM_IMAGES * 1.6, 5.6), layout="constrained")
    axes = figure.subplots(3, NUM_IMAGES)
    for column in range(NUM_IMAGES):
        sample = dataset.load(column)
        prediction = engine.predict_mask(sample.image).numpy()
        rows = (
            sample.image.permute(1, 2, 0).numpy(),
            color_mask(sample.mask.numpy(), dataset.classes),
            color_mask(prediction, dataset.classes),
        )
        for row, pixels in enumerate(rows):
            axes[row, column].imshow(pixels, interpolation="lanczos" if row == 0 else "nearest")
            axes[row, column].set(xticks=[], yticks=[])
            axes[row, column].spines[:].set_visible(False)
    for row, label in enumerate(("unseen image", "ground truth\n(white: ignored)", "prediction")):
        axes[row, 0].set_ylabel(label)
    colors = np.array(dataset.classes.colors) / 255
    patches = [
        Patch(color=color, label=name)
        for color, name in zip(colors, dataset.classes.names, strict=True)
    ]
    figure.legend(handles=patches, ncols=len(patches), loc="outside lower center", frameon=False)
    figure.savefig(path, dpi=100)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
