"""Label quality: the regions of a split ranked by how likely their labels are wrong."""

import warnings
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import numpy as np
from torch import Tensor

from atrous.classes import Classes
from atrous.data import SegmentationDataset
from atrous.engines import TTA, Engine, open_engine
from atrous.engines.logits import compute_mask
from atrous.errors import AtrousWarning, DataError
from atrous.evaluation.counts import Counts
from atrous.evaluation.evaluate import load_run_recipe, open_run_data
from atrous.evaluation.evaluator import Progress, check_classes, predict_split
from atrous.evaluation.label_parts import PLANTED_SHARE, FloatRows, Parts, find_parts, fit_ranking
from atrous.evaluation.planted_errors import MIN_REGION_SHARE, plant_errors
from atrous.evaluation.run_reader import load_plan
from atrous.run import RunFolder

SUSPECT_SCORE = 0.5
"""A region with at least this score is more likely wrong than not, by the planted errors."""

Models = Iterable[tuple[Engine, SegmentationDataset]]
"""Models, each with the part of a split that it ranks; it is iterated for each pass."""

_WHOLE = 0.8
_NUM_MASKS = 300


@dataclass(frozen=True)
class RankedRegion:
    """A label region in which the model predicts another class.

    The box is left, top, right and bottom (exclusive) of its most suspicious part, in which the
    model predicts `suggested`. The score is the probability that the label is wrong if one region
    in 20 is.
    """

    image: str
    box: tuple[int, ...]
    given: str
    suggested: str
    score: float
    reason: str


@dataclass(frozen=True)
class RankedImage:
    """An image: the sum of the scores of its regions, and how many reach `SUSPECT_SCORE`."""

    image: str
    score: float
    num_suspects: int


@dataclass(frozen=True)
class LabelReport:
    """Images of a split, and regions in which the model disagrees, the most suspicious first.

    `num_regions` includes the label regions without disagreement, which rank behind the others.
    """

    regions: tuple[RankedRegion, ...]
    images: tuple[RankedImage, ...]
    num_regions: int

    @property
    def num_suspects(self) -> int:
        """Number of regions from `SUSPECT_SCORE`."""
        return sum(image.num_suspects for image in self.images)

    def describe_verdict(self) -> str:
        """Return the result in one sentence."""
        num_images = sum(image.num_suspects > 0 for image in self.images)
        return (
            f"{self.num_suspects:,} of {self.num_regions:,} label regions are probably wrong, in "
            f"{num_images:,} of {len(self.images):,} images."
        )


class LabelRanking:
    """Ranks the label regions of a split, image by image.

    A label region is an 8-connected region of one class that covers at least 0.1 % of its image.
    It is ranked by its most suspicious part: connected pixels in which the model predicts one
    other class. Of regions whose parts overlap (by their boxes) only the most suspicious is listed.

    To learn which parts are wrong labels and which are errors of the model, errors are planted
    into copies of the masks, at least 300 in all (`plant_errors`). A logistic regression on the
    numbers of each part, their squares and products tells the parts of planted errors from those
    of the masks as given. It is fitted on one half of the images and scores the other.

    About 10 kB per image are kept of the `num_images` that will be added.
    """

    def __init__(self, classes: Classes, *, num_images: int) -> None:
        self.classes = classes
        self.num_copies = -(-_NUM_MASKS // max(1, num_images))
        self._names: list[str] = []
        self._counts = Counts(len(classes))
        self._given: list[Parts] = []
        self._planted: list[list[Parts]] = []

    def update(self, name: str, logits: Tensor, mask: Tensor) -> None:
        """Add one image.

        Shapes:
            logits: float (classes, H, W), divided by the temperature of the model
            mask: uint8 (H, W), class indices, 255 is ignored
        """
        log_probs = logits.float().log_softmax(dim=0)
        labels, errors = mask.cpu().numpy(), []
        for copy in range(self.num_copies):
            rng = np.random.default_rng([len(self._names), copy])
            planted, _ = plant_errors(labels, len(self.classes), rng, share=PLANTED_SHARE)
            errors.append(find_parts(log_probs, planted, inside=planted != labels))
        self._counts.update(compute_mask(logits), mask)
        self._names.append(name)
        self._given.append(find_parts(log_probs, labels))
        self._planted.append(errors)

    def compute(self) -> LabelReport:
        """Return the ranking of all images; raises DataError if no region is large enough."""
        num_regions = sum(parts.num_regions for parts in self._given)
        if not num_regions:
            raise DataError(
                "There are no labels to rank: no mask has a labelled region of at least "
                f"{MIN_REGION_SHARE:.1%} of its image."
            )
        scores = self._compute_scores()
        regions, images = [], []
        for name, parts, values in zip(self._names, self._given, scores, strict=True):
            chosen = choose_parts(parts, values)
            found = [self._describe(name, parts, part, float(values[part])) for part in chosen]
            regions += found
            num_suspects = sum(region.score >= SUSPECT_SCORE for region in found)
            images.append(RankedImage(name, sum(row.score for row in found), num_suspects))
        return LabelReport(
            regions=tuple(sorted(regions, key=lambda row: -row.score)),
            images=tuple(sorted(images, key=lambda row: -row.score)),
            num_regions=num_regions,
        )

    def _compute_scores(self) -> list[FloatRows]:
        evidence = np.zeros_like(self._counts.confusion, dtype=np.float64)
        for parts in self._given:
            np.add.at(evidence, (parts.given, parts.suggested), parts.evidence)
        given = [self._describe_parts(parts, evidence, own=1.0) for parts in self._given]
        planted = [
            np.concatenate([self._describe_parts(parts, evidence, own=0.0) for parts in copies])
            for copies in self._planted
        ]
        if not any(map(len, given)):
            return [np.zeros(0)] * len(given)
        rankings = []
        for other in (1, 0):
            rows, errors = given[other::2], planted[other::2]
            if not any(map(len, errors)):
                rows, errors = given, planted
            numbers = np.concatenate(rows), np.concatenate(errors)
            rankings.append(fit_ranking(*numbers, self.num_copies))
        return [rankings[index % 2](rows) for index, rows in enumerate(given)]

    def _describe_parts(self, parts: Parts, evidence: FloatRows, own: float) -> FloatRows:
        """Return the numbers of each part, with how typical its error is of the model.

        `evidence` is that of all given parts by given and suggested class; `own` is 1 if the parts
        are among them, else 0.
        """
        pixels = self._counts.confusion.sum(axis=1)
        shares = np.log(pixels / pixels.sum() + 1e-6)
        others = evidence[parts.given, parts.suggested] - own * parts.evidence
        typical = np.log(np.maximum(others, 0) + 1e-3)
        columns = (typical, shares[parts.given], shares[parts.suggested])
        return np.concatenate((parts.numbers, np.stack(columns, axis=1)), axis=1)

    def _describe(self, image: str, parts: Parts, part: int, score: float) -> RankedRegion:
        given, suggested = int(parts.given[part]), int(parts.suggested[part])
        names, confusion = self.classes.names, self._counts.confusion
        rate = confusion[given, suggested] / max(1, confusion[given].sum())
        *_, probability, _, of_label, of_prediction = parts.numbers[part].tolist()
        where = f"{max(0.01, of_label):.0%} of the region"
        if of_label < _WHOLE <= of_prediction:
            where = f"a whole {names[suggested]} within the region"
        reason = (
            f"{where}, predicted with probability {probability:.2f}; the model predicts "
            f"{names[suggested]} on {rate:.2%} of all pixels labelled {names[given]}"
        )
        box = tuple(parts.boxes[part].tolist())
        return RankedRegion(image, box, names[given], names[suggested], score, reason)


def choose_parts(parts: Parts, scores: FloatRows) -> list[int]:
    """Return the parts to list, most suspicious first: one per label region and per place."""
    chosen: list[int] = []
    for part in np.argsort(-scores, kind="stable").tolist():
        left, top, right, bottom = parts.boxes[part]
        lefts, tops, rights, bottoms = parts.boxes[chosen].T
        overlaps = (left < rights) & (lefts < right) & (top < bottoms) & (tops < bottom)
        if not (overlaps | (parts.regions[chosen] == parts.regions[part])).any():
            chosen.append(part)
    return chosen


def open_model_and_labels(
    run_or_file: Path | str,
    data: Path | str | None = None,
    *,
    split: str | None = None,
    format: str = "auto",
    ignore_index: int | None = None,
    device: str = "auto",
) -> tuple[Engine, SegmentationDataset]:
    """Open a model and a split whose labels it shall rank; warn if it was trained on them.

    The arguments and errors are those of `evaluate`.
    """
    path = Path(run_or_file)
    recipe = load_run_recipe(path)
    flip = recipe is None or recipe.data.flip > 0
    engine = open_engine(path, device=device, tta=TTA(flip=flip))
    dataset = open_run_data(path, engine.card, data, split, format, ignore_index)
    check_classes(engine.card, dataset)
    plan = load_plan(RunFolder(path).plan)
    if plan.get("train_fingerprint") == dataset.fingerprint():
        warnings.warn(
            f"{path} was trained on the split '{dataset.split}' of {dataset.root}, and has learned "
            "its wrong labels in part: they are ranked too low. Give a run that was trained on "
            "another split.",
            AtrousWarning,
            stacklevel=2,
        )
    return engine, dataset


def rank_labels(
    models: Models, dataset: SegmentationDataset, *, progress: Progress | None = None
) -> LabelReport:
    """Rank the labels of a split; see `LabelRanking`.

    The models have its classes and have not seen its labels. Raises DataError if nothing is ranked.
    """
    ranking, numbers = LabelRanking(dataset.classes, num_images=len(dataset)), count(1)
    for engine, part in models:
        with closing(predict_split(engine, part)) as results:
            for result in results:
                ranking.update(result.name, result.logits / engine.temperature, result.mask)
                if progress is not None:
                    progress(next(numbers), len(dataset))
    return ranking.compute()
