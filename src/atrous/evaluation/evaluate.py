"""Evaluation of a run folder or weights file on a split, and the files that keep the scores."""

import json
import time
import warnings
from collections.abc import Iterable
from contextlib import closing
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

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
from atrous.recipe import Recipe, load_recipe
from atrous.run import RunFolder


@dataclass(frozen=True)
class EvaluationReport:
    """Scores of a model on a split, with the conditions of the evaluation.

    Attributes:
        confusion: int64 (classes, classes), in pixels; rows are true, columns predicted classes.
        boundary, objects: Scores of edges, and recall of objects by size, if requested.
        output_stride: That of the evaluation; None for a model without this option.
        training: Origin of the weights, from their card.
        data_fingerprint: Hash of the files of the split.
        precision: `32`, `bf16` or `int8`.
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
    workers: int | Literal["auto"] = 0,
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
        split: By default, the run's validation split, else `val`.
        format: `voc`, `pairs`, or `auto` to detect it.
        ignore_index: Mask value of ignored pixels; by default, that of the run or the dataset.
        output_stride: If another than in training.
        device: `auto`, `cpu`, `cuda`, `cuda:1`, …
        precision: `32`, `bf16`, or `auto` for bf16 where the device supports it natively.
        engine: `torch`, an export of the run such as `openvino-int8`, or `auto` for the fastest
            of them; see `open_engine`.
        trust: Whether a .pt2 export may be opened, which can run any code when it is read.
        workers: Processes that read images; `auto`: 2 on a CPU, otherwise one per core but one.
        boundary: Also score edges, and objects by size; this takes more time per image.
        zero_untrained_taps: Set weights to zero that the run's training images never reached (see
            `models.untrained_taps`); runs made by this version have them at zero.

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
    start_s = time.perf_counter()
    with closing(predict_split(opened, dataset, workers=workers, progress=progress)) as results:
        scores = _score(results, dataset, opened.card.temperature, boundary)
    seconds = time.perf_counter() - start_s
    report = EvaluationReport(
        **scores,
        **_list_conditions(opened, dataset),
        output_stride=output_stride or opened.card.options.get("output_stride"),
        seconds=round(seconds, 3),
    )
    if path.is_dir():
        _save(report, RunFolder(path).evaluation)
    return report


def _handle_untrained_taps(model: Segmenter, path: Path, *, zero: bool) -> None:
    """Zero the taps that the training of a run never reached, or warn if they are random."""
    recipe = load_run_recipe(path)
    if recipe is None:
        if not zero:
            return
        raise ConfigError(
            f"--zero-untrained-taps needs the size of the training images, but {path} is not a "
            "run folder. Give the run folder."
        )
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


def _score(
    results: Iterable[ImageResult], dataset: SegmentationDataset, temperature: float, boundary: bool
) -> dict[str, Any]:
    num_classes, names, image_counts = len(dataset.classes), [], []
    counts = Counts(num_classes)
    confidence = ConfidenceCounts(num_classes, temperature=temperature)
    edges, objects = BoundaryCounts(num_classes), ObjectCounts()
    for result in results:
        names.append(result.name)
        image_counts.append(counts.update(result.prediction, result.mask))
        confidence.update(result.logits, result.prediction, result.mask)
        if boundary:
            edges.update(result.prediction, result.mask)
            objects.update(result.prediction, result.mask)
    return {
        "scores": compute_scores(counts, dataset.classes),
        "confusion": counts.confusion,
        "image_counts": ImageCounts(tuple(names), np.stack(image_counts)),
        "confidence": confidence.compute(),
        "boundary": edges.compute() if boundary else None,
        "objects": objects.compute() if boundary else None,
    }


def open_run_data(
    path: Path,
    card: ModelCard,
    root: Path | str | None,
    split: str | None,
    format: str,
    ignore_index: int | None,
) -> SegmentationDataset:
    """Open a split of a dataset with the classes of the model; by default, the run's validation."""
    if recipe := load_run_recipe(path):
        split = split or recipe.data.val_split
        ignore_index = recipe.data.ignore_index if ignore_index is None else ignore_index
        root = root or recipe.data.root
        if format == "auto" and Path(root) == Path(recipe.data.root):
            format = recipe.data.format
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


def _list_conditions(engine: Engine, dataset: SegmentationDataset) -> dict[str, Any]:
    return {
        "model": engine.card.name,
        "training": engine.card.training,
        "data": str(dataset.root),
        "split": dataset.split,
        "data_fingerprint": dataset.fingerprint(),
        "num_images": len(dataset),
        "tta": engine.tta,
        "precision": engine.precision,
        "device": str(engine.device),
        "engine": engine.name,
    }


def load_run_recipe(run: Path) -> Recipe | None:
    """Return the recipe of a run folder; None for a weights file."""
    path = RunFolder(run).recipe
    return load_recipe(path) if path.is_file() else None


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
