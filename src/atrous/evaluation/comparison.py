"""The result of a comparison of runs."""

from dataclasses import asdict, dataclass
from typing import Any

from atrous.engines import TTA
from atrous.evaluation.bootstrap import LEVEL, Difference, Estimate
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

    Attributes:
        name: Short name.
        folder: Run folder.
        model: Variant.
        output_stride: Output stride of the evaluation; None for a model without this option.
        precision: Numerical precision of the evaluation.
        miou: mIoU with its interval.
        precision_macro, recall_macro, f1_macro: Means over the classes in the masks.
        iou: IoU of each class; None if the class is in no mask.
        cost: Cost of segmenting one image; None if it was not measured.
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

    Attributes:
        name: Name of the run.
        against: Name of the first run.
        miou: Difference in mIoU.
        is_significant: Whether the difference in mIoU is significant, corrected for the number
            of runs.
        sentence: The difference in mIoU as a sentence.
        iou: Difference in IoU of each class; None if the class is in no mask.
        iou_is_significant: Whether each of them is significant, corrected for the number of
            classes.
        recipe_changes: Differences of the recipes, as `key: value of the first → of this run`.
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
    """Runs compared with the first of them.

    Attributes:
        split: Name of the split.
        num_images: Number of images of the split.
        tta: Test-time augmentation and sliding windows, the same for all runs.
        data_fingerprint: Hash of the files of the split, the same for all runs.
        convention: How the counts are scored, the same for all runs.
        class_names: Names of the classes, in the order of the other tuples.
        class_images: Number of masks with each class.
        num_resamples, seed: Number of resamples and seed of the bootstrap.
        runs: Scores of each run, in the order given.
        differences: Difference of each run but the first.
        notes: Caveats for the reader.
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
