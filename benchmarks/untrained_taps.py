"""What taps that training never reaches cost at evaluation: rows of the table in
docs/atrous-rates.md.

    python benchmarks/untrained_taps.py RUN... [--draws 3] [--classes 0,8,10]

These taps get no gradient, so a training with random taps is the same run with other weights in
them. The runs, whose taps are zero, are scored as they are, with several draws of the initial
weights, and in windows of the training size. Intervals are those of the images, for the first draw.
"""

import argparse
from copy import deepcopy
from pathlib import Path

import numpy as np
import torch

from atrous.engines import TTA, TorchEngine, open_engine
from atrous.evaluation.bootstrap import compute_difference, resample
from atrous.evaluation.counts import Counts
from atrous.evaluation.evaluate import open_run_data
from atrous.evaluation.evaluator import predict_split
from atrous.evaluation.metrics import compute_miou
from atrous.models import Segmenter, build_model, load_model
from atrous.models.untrained_taps import list_untrained_taps, zero_untrained_taps
from atrous.recipe import load_recipe
from atrous.run import RunFolder


def score(run: Path, model: Segmenter, classes: list[int] | None, window_px: int | None = None):
    """Return int64 (images, classes, 3): TP, FP and FN."""
    engine = open_engine(model, tta=TTA(window_px=window_px))
    assert isinstance(engine, TorchEngine)
    dataset = open_run_data(run, engine.card, None, None, "auto", None)
    counts = Counts(len(dataset.classes))
    results = predict_split(engine, dataset)
    tp_fp_fn = np.stack([counts.update(one.prediction, one.mask) for one in results])
    return tp_fp_fn if classes is None else tp_fp_fn[:, classes]


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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--draws", type=int, default=3)
    parser.add_argument("--classes", help="numbers of the classes of the mean")
    options = parser.parse_args()
    classes = options.classes and [int(one) for one in options.classes.split(",")]
    print("| run | rates untrained | zero | random | zero − random | windows |")
    print("|---|---|---|---|---|---|")
    for run in options.runs:
        model, size_hw = load_model(run), load_recipe(RunFolder(run).recipe).data.train_hw
        taps = list_untrained_taps(model, size_hw)
        zero_untrained_taps(model, size_hw)
        counts = [score(run, model, classes)]
        for seed in range(options.draws):
            counts.append(score(run, fill_untrained_taps(model, size_hw, seed), classes))
        windows = score(run, model, classes, min(size_hw))
        miou = [compute_miou(one.sum(0)) for one in (*counts, windows)]
        resampled = resample(counts[:2]).miou
        difference = compute_difference(
            miou[0] - miou[1], resampled[0] - resampled[1], len(windows)
        )
        rates = ", ".join(str(rate) for rate in sorted({one.rate for one in taps}))
        draws = " ".join(f"{one:.4f}" for one in miou[1:-1])
        interval = f"{difference.format_value()} ({difference.format_interval()})"
        print(f"| {run.name} | {rates} | {miou[0]:.4f} | {draws} | {interval} | {miou[-1]:.4f} |")


if __name__ == "__main__":
    main()
