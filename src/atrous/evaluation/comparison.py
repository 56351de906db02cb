"""The result of a comparison of runs, and whether they may be compared."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from atrous.engines import TTA
from atrous.errors import DataError
from atrous.evaluation.bootstrap import LEVEL, Difference, Estimate
from atrous.evaluation.run_reader import EvaluatedRun
from atrous.profile.cost import Cost

METHOD = (
    "Intervals: paired bootstrap over images; every resample is scored like a dataset. All are "
    "expanded percentile intervals (Hesterberg 2015) at 95 %; the interval of a run is corrected "
    "for the bias of the resamples. Significance is after Holm's correction at 5 %: for mIoU over "
    "all runs compared with the first, for classes over the classes of one pair. Intervals and "
    "probabilities themselves are not corrected."
)


@dataclass(frozen=True)
class RunScores:
    """Scores of one run.

    The macro scores are means over the classes in the masks. None is the output stride of a model
    without this option, the IoU of a class in no mask, and a cost that was not measured.
    """

    name: str
    folder: str
    model: str
    output_stride: int | None
    precision: str
    miou: Estimate
    precision_macro: float
    recall_macro: float
    f1_macro: float
    iou: tuple[Estimate | None, ...]
    cost: Cost | None


@dataclass(frozen=True)
class RunDifference:
    """Difference of a run from the first one.

    Significance is corrected for the number of runs, and for that of the classes. The difference in
    IoU is None for a class in no mask. Changes of the recipe are texts `key: first → this run`.
    """

    name: str
    against: str
    miou: Difference
    is_significant: bool
    sentence: str
    iou: tuple[Difference | None, ...]
    iou_is_significant: tuple[bool, ...]
    recipe_changes: tuple[str, ...]


@dataclass(frozen=True)
class RunComparison:
    """Runs compared with the first of them, all evaluated alike.

    `class_images` are numbers of masks with each class, `differences` those of each run but the
    first, and `notes` caveats for the reader.
    """

    split: str
    num_images: int
    tta: TTA
    data_fingerprint: str
    convention: str
    class_names: tuple[str, ...]
    class_images: tuple[int, ...]
    num_resamples: int
    seed: int
    runs: tuple[RunScores, ...]
    differences: tuple[RunDifference, ...]
    notes: tuple[str, ...]

    @property
    def cost(self) -> Cost | None:
        """The first measured cost; all were measured under the same conditions."""
        return next((run.cost for run in self.runs if run.cost), None)

    def to_json(self) -> dict[str, Any]:
        """Return plain values for a JSON file, classes by name."""
        values = asdict(self)
        names, num_images = values.pop("class_names"), values.pop("class_images")
        values["classes"] = [
            {"name": name, "index": index, "num_images": number}
            for index, (name, number) in enumerate(zip(names, num_images, strict=True))
        ]
        for run in values["runs"]:
            run["per_class"] = [
                {"name": name, "iou": iou} for name, iou in zip(names, run.pop("iou"), strict=True)
            ]
        for difference in values["differences"]:
            ious, significant = difference.pop("iou"), difference.pop("iou_is_significant")
            difference["per_class"] = [
                {"name": name, "iou": iou, "is_significant": is_significant}
                for name, iou, is_significant in zip(names, ious, significant, strict=True)
            ]
        return {**values, "level": LEVEL, "method": METHOD}


def check_comparable(runs: Sequence[EvaluatedRun]) -> None:
    """Raise DataError if images, masks, classes, evaluation options or conventions differ."""
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
        ours, theirs = (one if len(one) <= 80 else one[:77] + "…" for one in (ours, theirs))
        return f"'{ours}' against '{theirs}'"
    for index, (one, other) in enumerate(zip(ours, theirs, strict=False)):
        if one != other:
            return f"from number {index} on: '{one}' against '{other}'"
    return f"{len(ours)} against {len(theirs)}"


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
