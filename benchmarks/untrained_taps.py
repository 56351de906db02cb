"""What taps that training never reaches cost at evaluation: rows of the table in
docs/atrous-rates.md.

    python benchmarks/untrained_taps.py RUN... [--draws 3] [--scales 0.5,0.75,1,1.25] [--figure PNG]

These taps get no gradient, so a training with random taps is the same run with other weights in
them. The runs, whose taps are zero, are scored as they are, with several draws of the initial
weights, and in windows of the training size. Intervals are those of the images, for the first draw.
The figure shows the mIoU by the scale of the images, for the first draw.
"""

import argparse
from copy import deepcopy
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure

from atrous.engines import TTA, open_engine
from atrous.evaluation.bootstrap import compute_difference, resample
from atrous.evaluation.counts import Counts
from atrous.evaluation.evaluate import open_run_data
from atrous.evaluation.evaluator import predict_split
from atrous.evaluation.metrics import compute_miou
from atrous.models import Segmenter, build_model, load_model
from atrous.models.untrained_taps import list_untrained_taps, zero_untrained_taps
from atrous.recipe import load_recipe
from atrous.run import RunFolder


def score(run: Path, model: Segmenter, **tta):
    """Return int64 (images, classes, 3): TP, FP and FN."""
    engine = open_engine(model, tta=TTA(**tta))
    dataset = open_run_data(run, engine.card, None, None, "auto", None)
    counts = Counts(len(dataset.classes))
    results = predict_split(engine, dataset)
    return np.stack([counts.update(one.prediction, one.mask) for one in results])


@torch.no_grad()
def fill_untrained_taps(model: Segmenter, size_hw: tuple[int, int], seed: int) -> Segmenter:
    """Return the model with untrained taps as a new model has them before they are set to zero."""
    card = model.card
    torch.manual_seed(seed)
    random = build_model(card.name, **card.options)
    zeroed = deepcopy(random)
    names = [taps.name for taps in zero_untrained_taps(zeroed, size_hw)]
    filled = deepcopy(model)
    for name in names:
        difference = random.get_parameter(name) - zeroed.get_parameter(name)
        filled.get_parameter(name).add_(difference)
    return filled


def compare(run: Path, num_draws: int, scales: list[float]) -> dict[float, list[float]]:
    """Print a row of the table, and return the mIoU of zero and random taps by scale."""
    model, size_hw = load_model(run), load_recipe(RunFolder(run).recipe).data.train_hw
    taps = list_untrained_taps(model, size_hw)
    zero_untrained_taps(model, size_hw)
    draws = [fill_untrained_taps(model, size_hw, seed) for seed in range(num_draws)]
    counts = [score(run, one) for one in (model, *draws)]
    miou = [compute_miou(one.sum(0)) for one in counts]
    resampled = resample(counts[:2]).miou
    difference = compute_difference(miou[0] - miou[1], resampled[0] - resampled[1], len(counts[0]))
    windows = compute_miou(score(run, model, window_px=min(size_hw)).sum(0))
    rates = ", ".join(str(rate) for rate in sorted({one.rate for one in taps}))
    random = ", ".join(f"{one:.4f}" for one in miou[1:])
    interval = f"{difference.format_value()} ({difference.format_interval()})"
    print(f"| {run.name} | {rates} | {miou[0]:.4f} | {random} | {interval} | {windows:.4f} |")
    curve = {1.0: miou[:2]}
    for scale in set(scales) - {1.0}:
        scores = (score(run, one, scales=(scale,)) for one in (model, draws[0]))
        curve[scale] = [compute_miou(one.sum(0)) for one in scores]
    return dict(sorted(curve.items()))


def draw(curves: dict[str, dict[float, list[float]]], path: Path) -> None:
    figure = Figure(figsize=(2.6 * len(curves), 2.8), layout="constrained")
    panels = figure.subplots(1, len(curves), sharey=True, squeeze=False)[0]
    for axes, (name, curve) in zip(panels, curves.items(), strict=True):
        zero, random = zip(*curve.values(), strict=True)
        axes.plot(list(curve), zero, color="#2f6db3", marker="o", ms=4, label="zero")
        axes.plot(list(curve), random, color="#d95f0e", marker="o", ms=4, label="random")
        axes.set_title(name, loc="left", weight="bold", fontsize=10)
        axes.set_xlabel("scale of the images")
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(color="#e6e8eb")
    panels[0].set_ylabel("val mIoU")
    panels[0].legend(title="untrained taps", frameon=False)
    figure.savefig(path, dpi=150, metadata={"Software": None})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--draws", type=int, default=3)
    parser.add_argument("--scales", default="0.5,0.75,1,1.25")
    parser.add_argument("--figure", type=Path)
    options = parser.parse_args()
    scales = [float(one) for one in options.scales.split(",")] if options.figure else []
    print("| run | untrained rates | zero | random | zero − random | windows |")
    print("|---|---|---|---|---|---|")
    curves = {run.name: compare(run, options.draws, scales) for run in options.runs}
    if options.figure:
        draw(curves, options.figure)


if __name__ == "__main__":
    main()
