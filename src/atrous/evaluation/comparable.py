"""Whether the evaluations of several runs may be compared."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from atrous.errors import DataError
from atrous.evaluation.run_reader import EvaluatedRun


def check_comparable(runs: Sequence[EvaluatedRun]) -> None:
    """Raise if the scores of some runs are not comparable.

    Raises:
        DataError: Images, masks, classes, evaluation options or conventions differ.
    """
    first = runs[0]
    for run in runs[1:]:
        for what, describe, remedy in _MUST_AGREE:
            ours, theirs = describe(first), describe(run)
            if ours != theirs:
                raise DataError(
                    f"{first.name} and {run.name} cannot be compared: their {what} differ, "
                    f"{_describe_difference(ours, theirs)}. {remedy}"
                )
        _check_masks(first, run)


_AGAIN = "Evaluate both with the same `atrous evaluate RUN --data DATA --split SPLIT`."
_MUST_AGREE: tuple[tuple[str, Callable[[EvaluatedRun], Any], str], ...] = (
    ("classes", lambda run: run.class_names, "Compare runs of one dataset."),
    ("images", lambda run: run.images.names, _AGAIN),
    (
        "evaluation options",
        lambda run: run.tta.describe(),
        "Evaluate both with the same --scales, --flip, --window and --samples.",
    ),
    (
        "data fingerprints",
        lambda run: run.scores["data_fingerprint"],
        "The files of the split changed between the two evaluations, or they were made by "
        f"different versions of atrous. {_AGAIN}",
    ),
    (
        "conventions",
        lambda run: run.scores["convention"],
        f"They were made by different versions of atrous. {_AGAIN}",
    ),
)


def _describe_difference(ours: Any, theirs: Any) -> str:
    if isinstance(ours, str):
        return f"'{_shorten(ours)}' against '{_shorten(theirs)}'"
    for index, (one, other) in enumerate(zip(ours, theirs, strict=False)):
        if one != other:
            return f"from number {index} on: '{one}' against '{other}'"
    return f"{len(ours)} against {len(theirs)}"


def _shorten(text: str) -> str:
    return text if len(text) <= 80 else text[:77] + "…"


def _check_masks(first: EvaluatedRun, run: EvaluatedRun) -> None:
    """Compare the number of labelled pixels per image and class."""
    ours, theirs = (one.images.counts[..., [0, 2]].sum(axis=-1) for one in (first, run))
    if np.array_equal(ours, theirs):
        return
    image, index = np.argwhere(ours != theirs)[0].tolist()
    raise DataError(
        f"{first.name} and {run.name} cannot be compared: the mask of the image "
        f"'{first.images.names[image]}' had {ours[image, index]} pixels of "
        f"'{first.class_names[index]}' in one evaluation and {theirs[image, index]} in the other. "
        f"The masks, or the ignore index, changed between them. {_AGAIN}"
    )
