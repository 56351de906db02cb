"""Scoring a run folder or weights file on a split, and the files the scores are kept in."""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields, is_dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from atrous.data import SegmentationDataset, open_dataset
from atrous.devices import Precision, resolve_device
from atrous.engines import Engine, Views, open_engine
from atrous.errors import AtrousError, ConfigError
from atrous.evaluation.boundary import BoundaryCounts, BoundaryScores
from atrous.evaluation.confidence import ConfidenceCounts, ConfidenceScores
from atrous.evaluation.conventions import Convention, compute_conventions
from atrous.evaluation.counts import CountArray
from atrous.evaluation.evaluate_model import Evaluation, ImageResult, evaluate_engine
from atrous.evaluation.image_counts import ImageCounts, format_image_counts
from atrous.evaluation.metrics import Scores, compute_scores
from atrous.evaluation.objects import ObjectCounts, ObjectScore
from atrous.files import write_atomically
from atrous.models import Segmenter, load_model
from atrous.models.zoo import set_output_stride
from atrous.recipe import load_recipe
from atrous.run import RunFolder


@dataclass(frozen=True)
class EvaluationReport:
    """Scores, and all that they depend on.

    Attributes:
        scores: The scores.
        confusion: int64 (classes, classes), in pixels; row = true class, column = predicted.
        image_counts: Counts of each picture.
        confidence: How far the model's confidence can be trusted.
        boundary: Scores of edges, if asked for.
        objects: Recall of objects by size, if asked for.
        model: Variant.
        output_stride: That of the evaluation, which may differ from training; None for a model
            that has none to choose.
        training: How the weights came about, as their card says.
        data: Folder of the data set.
        split: Which of its splits.
        data_fingerprint: Changes when the files of the split do.
        num_images: Pictures in the split.
        views: Scales, mirror images and windows.
        precision: `32`, `bf16` or `int8`.
        device: What it was computed on.
        seconds: Time of the pass, reading included.
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
    views: Views
    precision: str
    device: str
    seconds: float
    engine: str = "torch"

    def compute_conventions(self) -> tuple[Convention, ...]:
        """Return the same counts under the conventions that others use."""
        return compute_conventions(self.image_counts.counts)

    def to_json(self) -> dict[str, Any]:
        """Return plain values for a JSON file: the scores at the top level, then the rest."""
        rest = {
            field.name: getattr(self, field.name)
            for field in fields(self)
            if field.name not in ("scores", "image_counts")
        }
        return {
            **self.scores.to_json(),
            **{key: _to_plain(value) for key, value in rest.items()},
            "conventions": _to_plain(self.compute_conventions()),
            "code_version": version("atrous"),
        }


def evaluate(
    run_or_file: Path | str,
    data: Path | str | None = None,
    *,
    split: str | None = None,
    format: str = "auto",
    ignore_index: int | None = None,
    views: Views = Views(),  # noqa: B008 (immutable)
    output_stride: int | None = None,
    device: str = "auto",
    precision: Precision = "32",
    engine: str = "torch",
    workers: int = 0,
    boundary: bool = False,
    progress: Callable[[int, int], object] | None = None,
) -> EvaluationReport:
    """Score a trained model on a split, at the masks' own resolution.

    Of a run folder, `evaluation/SPLIT.json` then holds the scores and `SPLIT-counts.jsonl` a line
    per picture: its name and, for each class in it, `[tp, fp, fn]` in pixels.

        from atrous import evaluate

        report = evaluate("runs/camvid", split="val")
        print(report.scores.miou, report.scores.per_class)

    Args:
        run_or_file: Run folder, of which the best weights are taken; weights or exported file.
        data: Folder of the data set; unset, that of the run.
        split: Name of the split; unset, the run's validation split, else `val`.
        format: `voc`, `pairs`, or `auto` to look.
        ignore_index: Mask value of no class; unset, what the run or the data says.
        views: Scales, mirror images and windows to look through.
        output_stride: Another output stride than in training, such as 8 after 16.
        device: `auto`, `cpu`, `cuda`, `cuda:1`, …
        precision: `32`, `bf16`, or `auto` for bf16 where the device computes in it natively.
        engine: `torch`, an export of the run such as `openvino-int8`, or `auto` for the fastest
            of them; see `open_engine`.
        workers: Processes that read ahead.
        boundary: Also score edges and, by size, objects, which costs time for each picture.
        progress: Called after each picture with the number of pictures done and of all.

    Raises:
        ConfigError: An option or device cannot be used, or no data is given.
        DataError: The data cannot be used, or has another number of classes than the model.
        WeightsError: The weights cannot be used.
    """
    path = Path(run_or_file)
    source: Path | Segmenter = path
    if output_stride is not None:
        if engine != "torch":
            raise ConfigError(
                f"Another output stride changes the network, which '{engine}' has in a file as it "
                "is. Use --engine torch with --output-stride."
            )
        source = set_output_stride(load_model(path, device=resolve_device(device)), output_stride)
    opened = open_engine(source, engine, views=views, device=device, precision=precision)
    dataset = open_run_data(path, data, split, format, ignore_index)
    measures = _Measures(dataset, opened.card.temperature, boundary, progress)
    evaluation = evaluate_engine(opened, dataset, workers=workers, on_image=measures)
    report = _build_report(opened, dataset, evaluation, measures, output_stride)
    if path.is_dir():
        _save(report, RunFolder(path).evaluation)
    return report


class _Measures:
    """All that is measured on each picture of a pass."""

    def __init__(
        self,
        dataset: SegmentationDataset,
        temperature: float,
        boundary: bool,
        progress: Callable[[int, int], object] | None,
    ) -> None:
        num_classes = len(dataset.classes)
        self.num_images, self.progress = len(dataset), progress
        self.names: list[str] = []
        self.counts: list[CountArray] = []
        self.confidence = ConfidenceCounts(num_classes, temperature=temperature)
        self.boundary = BoundaryCounts(num_classes) if boundary else None
        self.objects = ObjectCounts() if boundary else None

    def __call__(self, result: ImageResult) -> None:
        self.names.append(result.name)
        self.counts.append(result.counts)
        self.confidence.update(result.logits, result.prediction, result.mask)
        if self.boundary is not None and self.objects is not None:
            self.boundary.update(result.prediction, result.mask)
            self.objects.update(result.prediction, result.mask)
        if self.progress is not None:
            self.progress(len(self.names), self.num_images)


def open_run_data(
    path: Path, root: Path | str | None, split: str | None, format: str, ignore_index: int | None
) -> SegmentationDataset:
    """Open the split that a run was validated on, unless another is asked for."""
    recipe_path = RunFolder(path).recipe
    recipe = load_recipe(recipe_path).data if recipe_path.is_file() else None
    if recipe is not None:
        split = split or recipe.val_split
        ignore_index = recipe.ignore_index if ignore_index is None else ignore_index
        if root is None:
            root = recipe.root
            format = recipe.format if format == "auto" else format
    if not root:
        raise ConfigError(f"{path} does not say which data it was trained on: give the data.")
    return open_dataset(root, split or "val", format=format, ignore_index=ignore_index)


def _save(report: EvaluationReport, folder: Path) -> None:
    counts = zip(report.image_counts.names, report.image_counts.counts, strict=True)
    lines = b"".join(format_image_counts(name, errors) for name, errors in counts)
    text = json.dumps(report.to_json(), indent=2) + "\n"
    try:
        folder.mkdir(exist_ok=True)
        write_atomically(folder / f"{report.split}-counts.jsonl", lambda file: file.write(lines))
        write_atomically(folder / f"{report.split}.json", lambda file: file.write(text.encode()))
    except OSError as error:
        raise AtrousError(
            f"Cannot write the evaluation to {folder}: {error.strerror or error}. What an earlier "
            "evaluation wrote there is untouched. Free space, or evaluate the weights file itself."
        ) from error


def _build_report(
    engine: Engine,
    dataset: SegmentationDataset,
    evaluation: Evaluation,
    measures: _Measures,
    output_stride: int | None,
) -> EvaluationReport:
    return EvaluationReport(
        scores=compute_scores(evaluation.counts, dataset.classes),
        confusion=evaluation.counts.confusion,
        image_counts=ImageCounts(tuple(measures.names), np.stack(measures.counts)),
        confidence=measures.confidence.compute(),
        boundary=measures.boundary.compute() if measures.boundary else None,
        objects=measures.objects.compute() if measures.objects else None,
        model=engine.card.name,
        output_stride=output_stride or engine.card.options.get("output_stride"),
        training=engine.card.training,
        data=str(dataset.root),
        split=dataset.split,
        data_fingerprint=dataset.fingerprint(),
        num_images=evaluation.counts.num_images,
        views=engine.views,
        precision=engine.precision,
        device=str(engine.device),
        seconds=round(evaluation.seconds, 3),
        engine=engine.name,
    )


def _to_plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_to_plain(item) for item in value]
    if isinstance(value, np.ndarray):
        return value.tolist()
    return asdict(value) if is_dataclass(value) and not isinstance(value, type) else value
