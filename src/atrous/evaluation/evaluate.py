"""Evaluation of a run folder or weights file on a split, and the files that keep the scores."""

import json
import time
import warnings
from contextlib import closing
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from atrous.data import SegmentationDataset, open_dataset
from atrous.devices import Precision, resolve_device
from atrous.engines import TTA, Engine, TorchEngine, open_engine
from atrous.errors import AtrousError, AtrousWarning, ConfigError
from atrous.evaluation.boundary import BoundaryCounts, BoundaryScores
from atrous.evaluation.confidence import ConfidenceCounts, ConfidenceScores
from atrous.evaluation.conventions import Convention, compute_conventions
from atrous.evaluation.counts import CountArray, Counts
from atrous.evaluation.evaluator import ImageResult, Progress, predict_split
from atrous.evaluation.image_counts import ImageCounts, format_image_counts
from atrous.evaluation.metrics import Scores, compute_scores
from atrous.evaluation.objects import ObjectCounts, ObjectScore
from atrous.files import write_atomically
from atrous.models import ModelCard, Segmenter, load_model
from atrous.models.untrained_taps import list_untrained_taps, zero_untrained_taps
from atrous.models.zoo import set_output_stride
from atrous.recipe import load_recipe
from atrous.run import RunFolder


@dataclass(frozen=True)
class EvaluationReport:
    """Scores of a model on a split, with the conditions of the evaluation.

    Attributes:
        scores: Scores by dataset-wide counts.
        confusion: int64 (classes, classes), in pixels; rows are true, columns predicted classes.
        image_counts: Counts of each image.
        confidence: Calibration and risk-coverage.
        boundary: Scores of edges, if requested.
        objects: Recall of objects by size, if requested.
        model: Name of the variant.
        output_stride: Output stride of the evaluation, which may differ from training; None for
            a model without this option.
        training: Origin of the weights, from their card.
        data: Folder of the dataset.
        split: Name of the split.
        data_fingerprint: Hash of the files of the split.
        num_images: Number of images of the split.
        tta: Test-time augmentation and sliding windows.
        precision: `32`, `bf16` or `int8`.
        device: Device of the evaluation.
        seconds: Duration of the pass, including reading.
        engine: What ran the network, such as `torch` or `openvino-int8`.
    """

    scores: Scores
    confusion: CountArray
    image_counts: ImageCounts
    confidence: ConfidenceScores
    boundary: BoundaryScores | None
    objects: tuple[ObjectScore, ...] | None
    model: str
    output_stride: int | None
    training: dict[str, Any]
    data: str
    split: str
    data_fingerprint: str
    num_images: int
    tta: TTA
    precision: str
    device: str
    seconds: float
    engine: str = "torch"

    @property
    def is_calibration_split(self) -> bool:
        """Whether the temperature was fitted on these files; the calibration error is then low."""
        calibration = self.training.get("calibration") or {}
        return calibration.get("data_fingerprint") == self.data_fingerprint

    def compute_conventions(self) -> tuple[Convention, ...]:
        """Return the same counts scored under the conventions of other libraries."""
        return compute_conventions(self.image_counts.counts)

    def to_json(self) -> dict[str, Any]:
        """Return plain values for a JSON file: the scores at the top level, then the rest."""
        rest = asdict(self)
        del rest["scores"], rest["image_counts"]
        return {
            **self.scores.to_json(),
            **rest,
            "confusion": self.confusion.tolist(),
            "conventions": [asdict(one) for one in self.compute_conventions()],
            "code_version": version("atrous"),
        }


def evaluate(
    run_or_file: Path | str,
    data: Path | str | None = None,
    *,
    split: str | None = None,
    format: str = "auto",
    ignore_index: int | None = None,
    tta: TTA = TTA(),
    output_stride: int | None = None,
    device: str = "auto",
    precision: Precision = "32",
    engine: str = "torch",
    trust: bool = False,
    workers: int = 0,
    boundary: bool = False,
    zero_untrained_taps: bool = False,
    progress: Progress | None = None,
) -> EvaluationReport:
    """Score a trained model on a split, at the masks' own resolution.

    For a run folder, the scores are written to `evaluation/SPLIT.json`, and the counts to
    `evaluation/SPLIT-counts.jsonl`: one line per image with its name and, for each class in it,
    `[tp, fp, fn]` in pixels.

        from atrous import evaluate

        report = evaluate("runs/camvid", split="val")
        print(report.scores.miou, report.scores.per_class)

    Args:
        run_or_file: Run folder, whose best weights are used; a weights file or exported file.
        data: Folder of the dataset; by default, the run's.
        split: Name of the split; by default, the run's validation split, else `val`.
        format: `voc`, `pairs`, or `auto` to detect it.
        ignore_index: Mask value of ignored pixels; by default, that of the run or the dataset.
        tta: Test-time augmentation and sliding windows.
        output_stride: Output stride, if another than in training.
        device: `auto`, `cpu`, `cuda`, `cuda:1`, …
        precision: `32`, `bf16`, or `auto` for bf16 where the device supports it natively.
        engine: `torch`, an export of the run such as `openvino-int8`, or `auto` for the fastest
            of them; see `open_engine`.
        trust: Whether a .pt2 export may be opened, which can run any code when it is read.
        workers: Number of processes that read images.
        boundary: Also score edges, and objects by size; this takes more time per image.
        zero_untrained_taps: Set weights to zero that the run's training images never reached (see
            `models.untrained_taps`); runs made by this version have them at zero.
        progress: Called after each image with the number of images done and the total.

    Raises:
        ConfigError: An option or device cannot be used, or no dataset is given.
        DataError: The dataset cannot be used, or its classes are not those of the model.
        WeightsError: The weights cannot be used.
    """
    path = Path(run_or_file)
    source: Path | Segmenter = path
    if zero_untrained_taps and engine != "torch":
        raise ConfigError("--zero-untrained-taps changes weights: use it with --engine torch.")
    if output_stride is not None:
        if engine != "torch":
            raise ConfigError(
                f"The output stride of an exported network is fixed, so --output-stride cannot be "
                f"used with the engine '{engine}'. Use --engine torch with --output-stride."
            )
        source = set_output_stride(load_model(path, device=resolve_device(device)), output_stride)
    opened = open_engine(source, engine, tta=tta, device=device, precision=precision, trust=trust)
    if isinstance(opened, TorchEngine):
        _handle_untrained_taps(opened.model, path, zero=zero_untrained_taps)
    dataset = open_run_data(path, opened.card, data, split, format, ignore_index)
    accumulator = _Accumulator(len(dataset.classes), opened.card.temperature, boundary)
    start_s = time.perf_counter()
    with closing(predict_split(opened, dataset, workers=workers, progress=progress)) as results:
        for result in results:
            accumulator.update(result)
    seconds = time.perf_counter() - start_s
    report = _build_report(opened, dataset, accumulator, seconds, output_stride)
    if path.is_dir():
        _save(report, RunFolder(path).evaluation)
    return report


def _handle_untrained_taps(model: Segmenter, path: Path, *, zero: bool) -> None:
    """Zero the taps that the training of a run never reached, or warn if they are random."""
    recipe_path = RunFolder(path).recipe
    if not recipe_path.is_file():
        if zero:
            raise ConfigError(
                f"--zero-untrained-taps needs the size of the training images, but {path} is not a "
                "run folder. Give the run folder."
            )
        return
    recipe = load_recipe(recipe_path)
    size_hw = recipe.data.train_hw
    if zero:
        zero_untrained_taps(model, size_hw)
        return
    live = [taps for taps in list_untrained_taps(model, size_hw) if not taps.are_zero]
    if live and recipe.model.init in ("none", "imagenet"):
        rates = ", ".join(str(rate) for rate in sorted({taps.rate for taps in live}))
        warnings.warn(
            f"Training on images of {size_hw[0]}×{size_hw[1]} never reached all taps at rate "
            f"{rates}: they keep random weights, which add noise on larger images. Add "
            "--zero-untrained-taps, or evaluate in windows of the training size, such as "
            f"--window {min(size_hw)} (docs/atrous-rates.md).",
            AtrousWarning,
            stacklevel=2,
        )


class _Accumulator:
    """Accumulates everything that is measured on an image."""

    def __init__(self, num_classes: int, temperature: float, boundary: bool) -> None:
        self.names: list[str] = []
        self.counts = Counts(num_classes)
        self.image_counts: list[CountArray] = []
        self.confidence = ConfidenceCounts(num_classes, temperature=temperature)
        self.boundary = BoundaryCounts(num_classes) if boundary else None
        self.objects = ObjectCounts() if boundary else None

    def update(self, result: ImageResult) -> None:
        self.names.append(result.name)
        self.image_counts.append(self.counts.update(result.prediction, result.mask))
        self.confidence.update(result.logits, result.prediction, result.mask)
        if self.boundary is not None and self.objects is not None:
            self.boundary.update(result.prediction, result.mask)
            self.objects.update(result.prediction, result.mask)


def open_run_data(
    path: Path,
    card: ModelCard,
    root: Path | str | None,
    split: str | None,
    format: str,
    ignore_index: int | None,
) -> SegmentationDataset:
    """Open a split of a dataset with the classes of the model; by default, the run's validation."""
    recipe_path = RunFolder(path).recipe
    recipe = load_recipe(recipe_path).data if recipe_path.is_file() else None
    if recipe is not None:
        split = split or recipe.val_split
        ignore_index = recipe.ignore_index if ignore_index is None else ignore_index
        root = root or recipe.root
        if format == "auto" and Path(root) == Path(recipe.root):
            format = recipe.format
    if not root:
        raise ConfigError(f"{path} does not name its dataset: give the dataset folder.")
    dataset = open_dataset(root, split or "val", format=format, ignore_index=ignore_index)
    dataset = dataset.read_as(card.ranges)
    if card.selection is None or dataset.classes.names == card.classes.names:
        return dataset
    try:
        return dataset.select(card.selection)
    except ConfigError:  # another dataset, whose classes `check_classes` compares
        return dataset


def _save(report: EvaluationReport, folder: Path) -> None:
    counts = zip(report.image_counts.names, report.image_counts.counts, strict=True)
    lines = b"".join(format_image_counts(name, tp_fp_fn) for name, tp_fp_fn in counts)
    text = json.dumps(report.to_json(), indent=2) + "\n"
    try:
        folder.mkdir(exist_ok=True)
        write_atomically(folder / f"{report.split}-counts.jsonl", lambda file: file.write(lines))
        write_atomically(folder / f"{report.split}.json", lambda file: file.write(text.encode()))
    except OSError as error:
        raise AtrousError(
            f"The evaluation cannot be written to {folder}: {error.strerror or error}. Files of an "
            "earlier evaluation are unchanged. Free space, or evaluate the weights file itself."
        ) from error


def _build_report(
    engine: Engine,
    dataset: SegmentationDataset,
    accumulator: _Accumulator,
    seconds: float,
    output_stride: int | None,
) -> EvaluationReport:
    counts, boundary, objects = accumulator.counts, accumulator.boundary, accumulator.objects
    return EvaluationReport(
        scores=compute_scores(counts, dataset.classes),
        confusion=counts.confusion,
        image_counts=ImageCounts(tuple(accumulator.names), np.stack(accumulator.image_counts)),
        confidence=accumulator.confidence.compute(),
        boundary=boundary.compute() if boundary else None,
        objects=objects.compute() if objects else None,
        model=engine.card.name,
        output_stride=output_stride or engine.card.options.get("output_stride"),
        training=engine.card.training,
        data=str(dataset.root),
        split=dataset.split,
        data_fingerprint=dataset.fingerprint(),
        num_images=counts.num_images,
        tta=engine.tta,
        precision=engine.precision,
        device=str(engine.device),
        seconds=round(seconds, 3),
        engine=engine.name,
    )
