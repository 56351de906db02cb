"""Label errors found among planted ones: rows of the table in docs/label-quality.md.

    python benchmarks/label_quality.py RUN [DATA] [--seeds 1 2 3]

For every seed, errors are planted into 5 % of the label regions, drawn independently of those that
the ranking plants itself, and the regions are ranked. A planted error is found if, among the first
10 % of the label regions, the listed part has half of its pixels inside the changed pixels. The
other rankings are given more: by mean cross-entropy of the label region, an error is found as soon
as a region is listed that holds half of its changed pixels; by mean cross-entropy of the part, the
parts and the rule are those of the ranking.
"""

import argparse
from collections import Counter
from contextlib import closing

import numpy as np
import torch

from atrous.classes import IGNORE_INDEX
from atrous.evaluation.evaluator import predict_split
from atrous.evaluation.label_parts import find_parts
from atrous.evaluation.label_quality import (
    SUSPECT_SCORE,
    LabelRanking,
    choose_parts,
    open_model_and_labels,
)
from atrous.evaluation.planted_errors import (
    ERROR_KINDS,
    MIN_REGION_SHARE,
    label_regions,
    plant_errors,
)

SHARE, FIRST = 0.05, 0.1
LOSS = 4
"""Column of `Parts.numbers`."""


class Trial:
    """One seed: masks with planted errors, and their regions in the order of three rankings."""

    def __init__(self, engine, num_images, seed):
        self.temperature = engine.temperature
        self.ranking = LabelRanking(engine.classes, num_images=num_images)
        self.rng = np.random.default_rng([seed, 1])
        self.kinds, self.images = [], {}
        self.by_region_loss, self.by_part_loss = [], []

    def update(self, result):
        num_classes = len(self.ranking.classes)
        mask, errors = plant_errors(result.mask.numpy(), num_classes, self.rng, share=SHARE)
        changed = {len(self.kinds) + i: error.changed for i, error in enumerate(errors)}
        self.kinds += [error.kind for error in errors]
        self.images[result.name] = mask, result.prediction.numpy(), changed
        logits = result.logits / self.temperature
        self.ranking.update(result.name, logits, torch.from_numpy(mask))
        log_probs = logits.float().log_softmax(0)
        self.rank_regions(log_probs, mask, changed)
        parts = find_parts(log_probs, mask)
        for part in choose_parts(parts, parts.numbers[:, LOSS]):
            pair = parts.given[part], parts.suggested[part]
            found = self.find(result.name, parts.boxes[part], pair)
            self.by_part_loss.append((parts.numbers[part, LOSS], found))

    def rank_regions(self, log_probs, mask, changed):
        labelled = mask != IGNORE_INDEX
        index = torch.from_numpy(np.where(labelled, mask, 0).astype(np.int64))
        loss = -log_probs.gather(0, index[None])[0].numpy()
        regions = label_regions(mask, labelled)
        areas = np.bincount(regions.ravel())
        means = np.bincount(regions.ravel(), weights=loss.ravel()) / np.maximum(areas, 1)
        held = {k: np.bincount(regions[pixels], minlength=len(areas)) / pixels.sum()
                for k, pixels in changed.items()}  # fmt: skip
        for region in np.flatnonzero(areas[1:] >= MIN_REGION_SHARE * mask.size) + 1:
            found = {k for k, shares in held.items() if shares[region] >= 0.5}
            self.by_region_loss.append((means[region], found))

    def find(self, name, box, pair):
        mask, predicted, changed = self.images[name]
        left, top, right, bottom = box
        place = np.s_[top:bottom, left:right]
        part = (mask[place] == pair[0]) & (predicted[place] == pair[1])
        return {k for k, pixels in changed.items() if 2 * pixels[place][part].sum() >= part.sum()}

    def print_row(self, seed, classes):
        report = self.ranking.compute()
        number = {name: index for index, name in enumerate(classes.names)}
        ranked = [
            (row.score, self.find(row.image, row.box, (number[row.given], number[row.suggested])))
            for row in report.regions
        ]
        num_first, total = round(FIRST * report.num_regions), Counter(self.kinds)
        columns = []
        for rows in (ranked, self.by_part_loss, self.by_region_loss):
            best = sorted(rows, key=lambda row: -row[0])[:num_first]
            found = Counter(self.kinds[k] for k in set().union(*(found for _, found in best)))
            columns.append(found)
        shares = "".join(f"{sum(found.values()) / len(self.kinds):>10.1%}" for found in columns)
        kinds = "".join(f"{columns[0][kind]:>7}/{total[kind]:<3}" for kind in ERROR_KINDS)
        suspects = [found for score, found in ranked if score >= SUSPECT_SCORE]
        hits = f"{sum(map(bool, suspects))}/{len(suspects)}"
        numbers = f"{seed:>4}{report.num_regions:>9}{len(self.kinds):>9}{num_first:>7}"
        print(f"{numbers}{shares}{kinds}{hits:>10}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run")
    parser.add_argument("data", nargs="?")
    parser.add_argument("--split")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    arguments = parser.parse_args()
    engine, dataset = open_model_and_labels(arguments.run, arguments.data, split=arguments.split)
    trials = {seed: Trial(engine, len(dataset), seed) for seed in arguments.seeds}
    with closing(predict_split(engine, dataset)) as results:
        for result in results:
            for trial in trials.values():
                trial.update(result)
    heads = "".join(f"{kind:>11}" for kind in ERROR_KINDS)
    print("seed  regions  planted  first   ranking part loss reg. loss" + heads + "  suspects")
    for seed, trial in trials.items():
        trial.print_row(seed, dataset.classes)


if __name__ == "__main__":
    main()
