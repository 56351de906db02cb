"""What a comparison of runs is: plain numbers, notes, and the same in words."""

from dataclasses import asdict, dataclass
from typing import Any

from atrous.engines import Views
from atrous.evaluation.bootstrap import LEVEL, Difference, Estimate
from atrous.inference.cost import Cost

METHOD = (
    "Intervals: paired bootstrap over pictures; every draw is scored as a data set of its own. A "
    "run's interval is shifted by the bias of the draws; all are expanded percentile intervals "
    "(Hesterberg 2015) at 95 %. What is called clear is so after Holm's correction at 5 %: over "
    "all runs held against the first for mIoU, over the classes of one pair for classes. "
    "Intervals and probabilities themselves are not corrected."
)


@dataclass(frozen=True)
class RunScores:
    """One run on the pictures.

    Attributes:
        name: Short name.
        folder: Run folder.
        model: Variant.
        output_stride: That of the evaluation; None for a model that has none to choose.
        precision: That of the evaluation.
        miou: With its interval.
        precision_macro, recall_macro, f1_macro: Means over the classes in the masks.
        iou: One per class; None where no mask holds the class.
        cost: What one picture costs; None if it was not measured.
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
    """A run less the first one.

    Attributes:
        name: Of the run.
        against: Name of the first run.
        miou: Difference in mIoU.
        is_clear: Whether it is clear, with all runs that were held against the first in mind.
        sentence: The same in plain words.
        iou: Differences per class; None where no mask holds the class.
        clear: Which of those are clear, with all classes in mind.
        recipe_changes: What the recipes differ in, `key: the first run's → this run's`.
    """

    name: str
    against: str
    miou: Difference
    is_clear: bool
    sentence: str
    iou: tuple[Difference | None, ...]
    clear: tuple[bool, ...]
    recipe_changes: tuple[str, ...]


@dataclass(frozen=True)
class Comparison:
    """Runs held against the first of them.

    Attributes:
        split: Which split of the data.
        num_images: Pictures in it.
        views: Scales, mirror images and windows, the same for all.
        data_fingerprint: Of the split, the same for all.
        convention: How the counts are scored, the same for all.
        class_names: In the order of every tuple of classes here.
        class_images: In how many masks each class is.
        num_resamples, seed: Of the bootstrap.
        runs: In the order given.
        differences: One for each run but the first.
        notes: What to keep in mind when reading the numbers.
    """

    split: str
    num_images: int
    views: Views
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
        """The first cost that was measured; all were in the same way."""
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
            ious, clear = difference.pop("iou"), difference.pop("clear")
            difference["per_class"] = [
                {"name": name, "iou": iou, "is_clear": is_clear}
                for name, iou, is_clear in zip(names, ious, clear, strict=True)
            ]
        return {**values, "level": LEVEL, "method": METHOD}
