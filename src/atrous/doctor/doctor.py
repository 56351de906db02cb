"""The dataset doctor: read a whole dataset once and report what is wrong with it."""

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from atrous.classes import IGNORE_INDEX
from atrous.data import compute_class_weights
from atrous.data.classes_file import read_class_list
from atrous.data.layouts import find_all_files, find_layout, read_given_bands, read_given_classes
from atrous.data.pairs import describe_overlooked
from atrous.data.shards import Shards
from atrous.data.split_files import SplitFiles
from atrous.doctor import (
    band_checks,
    class_checks,
    file_checks,
    look_checks,
    mask_checks,
    split_checks,
)
from atrous.doctor.class_checks import compute_imbalance
from atrous.doctor.findings import Finding
from atrous.doctor.kinds import KINDS, LEVELS
from atrous.doctor.scan import PairPaths, scan_pairs
from atrous.doctor.split_checks import find_matches
from atrous.doctor.survey import Survey
from atrous.errors import ConfigError, DataError
from atrous.recipe import DataRecipe

_CHECKS: tuple[Callable[[Survey], list[Finding]], ...] = (
    split_checks.check_refused_splits,
    split_checks.check_unpaired,
    split_checks.check_unlabelled,
    split_checks.check_repeated_names,
    file_checks.check_files,
    band_checks.check_bands,
    mask_checks.check_color_masks,
    mask_checks.check_palette_order,
    mask_checks.check_binary_masks,
    mask_checks.check_object_ids,
    mask_checks.check_values,
    class_checks.check_classes,
    class_checks.check_imbalance,
    look_checks.check_duplicates,
    look_checks.check_near_duplicates,
    look_checks.check_shared_series,
    look_checks.check_alignment,
)


@dataclass(frozen=True)
class ClassCount:
    """Pixels and images of one class in a split, and the resulting class weights."""

    index: int
    name: str
    pixels: int
    share: float
    num_images: int
    weight_inverse: float
    weight_median_frequency: float


@dataclass(frozen=True)
class SplitCount:
    """Pixels of a split by class; for `imbalance`, see `compute_imbalance`."""

    num_images: int
    ignored_share: float
    imbalance: float | None
    classes: list[ClassCount]


@dataclass(frozen=True)
class CheckReport:
    """Result of `check_dataset`; its findings are in the order of `KINDS`, errors first."""

    survey: Survey
    findings: list[Finding]
    seconds: float

    @property
    def num_pairs(self) -> int:
        """Number of pairs that were read."""
        return len(self.survey.pairs)

    @property
    def exit_code(self) -> int:
        """0 without errors and warnings, 1 with, 2 if no pair can be read."""
        if not any(pair.image and pair.mask for pair in self.survey.pairs):
            return 2
        return int(any(finding.level != "note" for finding in self.findings))

    def describe_verdict(self) -> str:
        """Return the number of findings per level, as one line."""
        if self.exit_code == 2:
            return "Unusable: not a single pair could be read."
        found = Counter(finding.level for finding in self.findings)
        numbers = [(found[level], level) for level in LEVELS if found[level]]
        parts = [f"{number} {level}{'s' * (number > 1)}" for number, level in numbers]
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
            "num_classes": len(survey.learned),
            "ignore_index": survey.ignore_index,
            "crop": survey.data.crop,
            "seconds": round(self.seconds, 2),
            "exit_code": self.exit_code,
            "findings": [finding.to_json() for finding in self.findings],
            "splits": {name: asdict(split) for name, split in self.splits.items()},
        }


def check_dataset(
    data: DataRecipe | Path | str,
    *,
    names: Path | None = None,
    workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> CheckReport:
    """Read every image and mask of all splits once, and report what is wrong.

    Args:
        data: Settings of training, such as `recipe.data`: splits, crop, ignore index, classes. Or
            the folder of a dataset, with their defaults.
        names: File that says what the values or colours of masks mean, instead of `classes.toml`;
            see `read_class_list`.
        workers: Number of processes; None for one per core.

    Raises:
        DataError: There is no dataset of a known layout, it is empty, or `classes.toml`, `names`
            or a split list cannot be read.
        ConfigError: No folder is given, an option is out of range, or a selected class does not
            exist.

    Example:
        >>> from atrous.doctor import check_dataset
        >>> report = check_dataset("mydata")
        >>> print(report.exit_code, [finding.code for finding in report.findings])
    """
    start_s = time.monotonic()
    data = data if isinstance(data, DataRecipe) else DataRecipe(root=str(data))
    if not data.root:
        raise ConfigError("No data is given: name the folder of the dataset, or data.root.")
    if workers is not None and workers < 1:
        raise ConfigError("The number of workers must be at least 1.")
    layout, folder = find_layout(data.root, data.format)
    splits = find_all_files(layout, folder)
    _check_not_empty(folder, splits)
    matches = {split: find_matches(files, layout) for split, files in splits.items()}
    indices: dict[PairPaths, int] = {}
    members = {}
    for split, files in splits.items():
        pairs = sorted((files.pairs | matches[split]).items())
        members[split] = [
            indices.setdefault(PairPaths(name, *paths), len(indices)) for name, paths in pairs
        ]
    listed = None if names is None else read_class_list(names)
    own = read_given_classes(data.root, layout, folder)
    given, ignore_index = own or (None, IGNORE_INDEX)
    if listed is not None:
        given = listed.classes
        ignore_index = ignore_index if listed.ignore_index is None else listed.ignore_index
        if ignore_index in (listed.values or ()):
            ignore_index = -1  # no value of a mask
    if given is not None:
        data.class_selection.apply(given)  # fails before files are read
    bands, ranges = read_given_bands(data.root, folder)
    survey = Survey(
        data=data,
        folder=folder,
        layout=layout,
        splits=splits,
        matches=matches,
        pairs=scan_pairs(list(indices), bands=bands, workers=workers, progress=progress),
        members=members,
        given=given,
        ignore_index=ignore_index if data.ignore_index is None else data.ignore_index,
        names=listed,
        bands=bands,
        ranges=ranges,
    )
    return CheckReport(survey, _list_findings(survey), time.monotonic() - start_s)


def _check_not_empty(folder: Path | Shards, splits: dict[str, SplitFiles]) -> None:
    if not any(files.names for files in splits.values()):
        folders = [path for s in splits.values() for path in (s.image_folder, s.mask_folder)]
        raise DataError(
            f"{folder} holds no images: all of its splits are empty.{describe_overlooked(*folders)}"
        )


def _list_findings(survey: Survey) -> list[Finding]:
    findings = [finding for check in _CHECKS for finding in check(survey)]
    return sorted(findings, key=lambda finding: list(KINDS).index(finding.code))


def _count_split(survey: Survey, split: str) -> SplitCount:
    statistics = survey.count_pixels([split])
    total, chosen = sum(statistics.pixels), set(survey.members[split])
    num_images = Counter(
        label for index, pixels in survey.class_pixels if index in chosen for label in pixels
    )
    zeros = [0.0] * len(survey.learned)
    inverse, median = (
        (compute_class_weights(statistics, method) if total else None) or zeros
        for method in ("inverse", "median_frequency")
    )
    counts = zip(survey.learned.names, statistics.pixels, strict=True)
    return SplitCount(
        num_images=len(chosen),
        ignored_share=statistics.num_ignored / max(total + statistics.num_ignored, 1),
        imbalance=compute_imbalance(statistics.pixels),
        classes=[
            ClassCount(i, name, count, count / max(total, 1), num_images[i], inverse[i], median[i])
            for i, (name, count) in enumerate(counts)
        ],
    )
