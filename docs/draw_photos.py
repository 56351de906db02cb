"""Draw the photographs at the top of the README: python docs/draw_photos.py OUT.png MODEL=PHOTO …

The photographs come with packages: china.jpg with scikit-learn (CC BY), chelsea.png with
scikit-image (CC0), grace_hopper.jpg with matplotlib (public domain).
"""

import sys
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from atrous import load_model
from atrous.engines import TorchEngine
from atrous.images import read_image

MIN_SHARE = 0.01


def main(out: Path, pairs: list[str]) -> None:
    named = [pair.partition("=")[::2] for pair in pairs]
    images = [read_image(Path(photo)) for _, photo in named]
    ratios = [image.shape[2] / image.shape[1] for image in images]
    figure = Figure(figsize=(2.6 * sum(ratios), 5.6), layout="constrained")
    axes = figure.subplots(2, len(pairs), width_ratios=ratios)
    for column, ((name, _), image) in enumerate(zip(named, images, strict=True)):
        engine = TorchEngine(load_model(name))
        mask = engine.predict_mask(image).numpy()
        pixels = image.permute(1, 2, 0).numpy()
        colors = np.array(engine.classes.colors)
        blended = (0.45 * pixels + 0.55 * colors[mask]).astype(np.uint8)
        has_background = engine.classes.names[0] == "background"
        overlay = np.where((mask == 0)[..., None] & has_background, pixels, blended)
        for row, panel in enumerate((pixels, overlay)):
            axes[row, column].imshow(panel)
            axes[row, column].set(xticks=[], yticks=[])
            axes[row, column].spines[:].set_visible(False)
        shares = np.bincount(mask.ravel(), minlength=len(colors)) / mask.size
        shown = [i for i in np.flatnonzero(shares > MIN_SHARE) if i or not has_background]
        patches = [Patch(color=colors[i] / 255, label=engine.classes.names[i]) for i in shown]
        axes[1, column].legend(
            handles=patches, ncols=3, loc="upper center", bbox_to_anchor=(0.5, -0.02), frameon=False
        )
        axes[0, column].set_title(name, fontsize=11)
    figure.savefig(out, dpi=110)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
