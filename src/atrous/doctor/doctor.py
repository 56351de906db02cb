"""The dataset doctor: read all of a dataset once, and say what is wrong with it."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from atrous.classes import IGNORE_INDEX, VOC_NAMES, Classes, build_classes
from atrous.data import compute_class_weights
from atrous.data.dataset import Layout, find_layout, find_split_files, read_given_classes
from atrous.data.pairs import describe_overlooked
from atrous.doctor.checks import run_checks
from atrous.doctor.class_checks import compute_imbalance
from atrous.doctor.findings import Finding
from atrous.doctor.kinds import LEVELS
from atrous.doctor.renames import find_matches
from atrous.doctor.scan import PairPaths, scan_pairs
from atrous.doctor.survey import Survey
from atrous.errors import ConfigError, DataError
from atrous.recipe import DataRecipe

_TRAINING = DataRecipe()
"""What training uses where nothing else is said."""


@dataclass(frozen=True)
class ClassCount:
    """How often one class occurs in a split, and the weights that would follow."""

    index: int
    name: str
    pixels: int
    share: float
    num_images: int
    weight_inverse: float
    weight_median_frequency: float


@dataclass(frozen=True)
class SplitCount:
    """Pixels of a split by class.

    Attributes:
        num_images: Pairs in it.
        ignored_share: Ignored pixels, of all.
        imbalance: Most over fewest pixels of the classes that occur, None below two.
        classes: One entry per class.
    """

    num_images: int
    ignored_share: float
    imbalance: float | None
    classes: list[ClassCount]


@dataclass(frozen=True)
class CheckReport:
    """What the doctor found.

    Attributes:
        survey: The facts that it rests on.
        findings: Errors first.
        seconds: How long it took.
    """

    survey: Survey
    findings: list[Finding]
    seconds: float

    @property
    def num_pairs(self) -> int:
        """Pairs that were read, each once."""
        return len(self.survey.pairs)

    @property
    def exit_code(self) -> int:
        """0 without errors and warnings, 1 with, 2 where not a single pair could be read."""
        if not any(pair.image and pair.mask for pair in self.survey.pairs):
            return 2
        return int(any(finding.level != "note" for finding in self.findings))

    def describe_verdict(self) -> str:
        """Say in one line how many findings there are of each level."""
        if self.exit_code == 2:
            return "Unusable: not a single pair could be read."
        parts = []
        for level in LEVELS:
            number = sum(finding.level == level for finding in self.findings)
            if number:
                parts.append(f"{number} {level}{'s' * (number > 1)}")
        return f"{', '.join(parts)}." if parts else "No findings."

    @cached_property
    def splits(self) -> dict[str, SplitCount]:
        """Split → its pixels by class."""
        return {split: _count_split(self.survey, split) for split in self.survey.splits}

    def to_json(self) -> dict[str, Any]:
        """Return the report as plain values."""
        survey = self.survey
        return {
            "root": str(survey.root),
            "format": survey.layout,
            "num_pairs": self.num_pairs,
            "num_classes": len(survey.classes),
            "ignore_index": survey.ignore_index,
            "crop": survey.crop_px,
            "seconds": round(self.seconds, 2),
            "exit_code": self.exit_code,
            "findings": [finding.to_json() for finding in self.findings],
            "splits": {
                name: vars(split) | {"classes": [vars(count) for count in split.classes]}
                for name, split in self.splits.items()
            },
        }


def check_dataset(
    root: Path | str,
    *,
    format: str = "auto",
    ignore_index: int | None = None,
    crop_px: int | None = None,
    train_split: str = _TRAINING.train_split,
    val_split: str = _TRAINING.val_split,
    workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> CheckReport:
    """Read every image and mask of all splits once, and report what is wrong.

    Args:
        root: Folder of the dataset, of a layout that `open_dataset` knows.
        format: `voc`, `pairs`, or `auto` to tell from what is there.
        ignore_index: Mask value of ignored pixels, over the one in `classes.toml` (default 255).
        crop_px: Side of the crop that training will use; None for its default.
        train_split: Split that training will use.
        val_split: Split that training will validate on.
        workers: Processes; None for one per core.
        progress: Called with how many pairs are done and how many there are.

    Raises:
        DataError: There is no dataset of a known layout, it is empty, or `classes.toml` or a
            split list cannot be read.
        ConfigError: An option is out of its range.

    Example:
        >>> from atrous.doctor import check_dataset
        >>> report = check_dataset("mydata")
        >>> print(report.exit_code, [finding.code for finding in report.findings])
    """
    start_s = time.monotonic()
    crop_px = _TRAINING.crop if crop_px is None else crop_px
    assert crop_px is not None
    if crop_px < 1 or (workers is not None and workers < 1):
        raise ConfigError("The crop and the number of workers must be at least 1.")
    root = Path(root)
    layout, folder = find_layout(root, format)
    splits = find_split_files(root, format=format)
    matches = {split: find_matches(files, layout) for split, files in splits.items()}
    places: dict[PairPaths, int] = {}
    members = {}
    for split, files in splits.items():
        whole = files.pairs | matches[split]
        paths = [PairPaths(name, *whole[name]) for name in sorted(whole)]
        members[split] = [places.setdefault(pair, len(places)) for pair in paths]
    if not any(files.names for files in splits.values()):
        folders = [place for s in splits.values() for place in (s.image_folder, s.mask_folder)]
        raise DataError(
            f"{folder} holds no images: all of its splits are empty.{describe_overlooked(*folders)}"
        )
    given, has_table, own_ignore_index = _read_classes(root, folder, layout)
    survey = Survey(
        root=root,
        folder=folder,
        layout=layout,
        splits=splits,
        matches=matches,
        pairs=scan_pairs(list(places), workers=workers, progress=progress),
        members=members,
        given=given,
        has_table=has_table,
        ignore_index=own_ignore_index if ignore_index is None else ignore_index,
        crop_px=crop_px,
        train_split=train_split,
        val_split=val_split,
    )
    return CheckReport(survey, run_checks(survey), time.monotonic() - start_s)


def _read_classes(root: Path, folder: Path, layout: Layout) -> tuple[Classes | None, bool, int]:
    """Return the classes if they are given, whether with own colours, and the ignore index."""
    given = read_given_classes(root, layout, folder)
    if given is None:
        return None, False, IGNORE_INDEX
    classes, ignore_index = given
    filled_in = build_classes(classes.names)
    return classes, classes != filled_in or classes.names == VOC_NAMES, ignore_index


def _count_split(survey: Survey, split: str) -> SplitCount:
    statistics = survey.count_pixels([split])
    total = sum(statistics.pixels)
    num_images = [0] * len(survey.classes)
    chosen = set(survey.members[split])
    for index, mask in survey.index_masks:
        if index in chosen:
            for value in survey.list_classes(mask):
                if value < len(num_images):
                    num_images[value] += 1
    zeros = [0.0] * len(num_images)
    inverse, median = zeros, zeros
    if total:
        inverse = compute_class_weights(statistics, "inverse") or zeros
        median = compute_class_weights(statistics, "median_frequency") or zeros
    return SplitCount(
        num_images=len(chosen),
        ignored_share=statistics.num_ignored / max(total + statistics.num_ignored, 1),
        imbalance=compute_imbalance(statistics.pixels),
        classes=[
            ClassCount(
                index=index,
                name=name,
                pixels=statistics.pixels[index],
                share=statistics.pixels[index] / max(total, 1),
                num_images=num_images[index],
                weight_inverse=inverse[index],
                weight_median_frequency=median[index],
            )
            for index, name in enumerate(survey.classes.names)
        ],
    )
