"""Notes and warnings at the start of a run."""

from collections.abc import Iterator
from typing import Any

from atrous.data import SegmentationDataset, list_splits
from atrous.models.fitting import group_names
from atrous.models.untrained_taps import compute_map_hw, fit_rates
from atrous.recipe import Recipe
from atrous.training.learner import Learner


def list_notes(
    learner: Learner, recipe: Recipe, train_set: SegmentationDataset
) -> Iterator[dict[str, Any]]:
    """Return the notes and warnings about data, frozen weights and taps of a new run."""
    if train_set.selection is not None:
        message = recipe.data.class_selection.describe(train_set.classes)
        yield {"kind": "note", "message": message}
    data = recipe.data
    may_have_more = train_set.format == "voc" and data.train_split == "train"
    if may_have_more and "trainaug" in list_splits(data.root, format="voc"):
        message = "The split 'trainaug' has more images: --train-split trainaug trains on them."
        yield {"kind": "note", "message": message}
    frozen = learner.frozen.names if learner.frozen else []
    random = set(frozen if learner.loaded is None else learner.loaded.missing)
    if names := [name for name in frozen if name in random]:
        message = "The frozen part has random weights, which training does not change: "
        message += f"{', '.join(group_names(names))}. Load weights with --init, or freeze less."
        yield {"kind": "warning", "message": message}
    if rates := sorted({taps.rate for taps in learner.untrained_taps}):
        height, width = recipe.data.train_hw
        cells = compute_map_hw(learner.model, (height, width))
        fitted = fit_rates(recipe.model.name, recipe.model.output_stride, min(height, width))
        message = f"On training images of {height}×{width} the feature map has "
        message += f"{cells[0]}×{cells[1]} cells: taps at rate {', '.join(map(str, rates))} reach "
        message += 'beyond it, get no gradient and start at zero. model.atrous_rates = "fit" sets '
        message += f"{', '.join(map(str, fitted))}; see docs/atrous-rates.md."
        yield {"kind": "note", "message": message}
