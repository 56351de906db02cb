"""Going through a split once: counts, loss and scores, with the files they are kept in."""

import json
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from atrous.data import SegmentationDataset, build_eval_loader, open_dataset
from atrous.errors import AtrousError, ConfigError, DataError
from atrous.evaluation.counts import CountArray, Counts
from atrous.evaluation.image_counts import format_image_counts
from atrous.evaluation.metrics import Scores, compute_scores
from atrous.files import write_atomically
from atrous.inference import TorchEngine, Views, resolve_device, resolve_precision
from atrous.inference.engine import Precision, compute_mask
from atrous.models import Segmenter, load_model
from atrous.models.zoo import set_output_stride
from atrous.recipe import load_recipe
from atrous.run import RunFolder

Criterion = Callable[[Tensor, Tensor], Tensor]
"""Maps logits (1, classes, H, W) and an int64 mask (1, H, W) to a mean loss."""

OnImage = Callable[[str, CountArray], object]
"""Called after each picture with its name and its counts, as `Counts.update` returns them."""


@dataclass(frozen=True)
class Evaluation:
    """What one pass over a split gave.

    Attributes:
        counts: Pixels by true and predicted class.
        loss: Mean of the criterion over labelled pixels; None without criterion.
        seconds: Time of the pass, reading included.
    """

    counts: Counts
    loss: float | None
    seconds: float


@dataclass(frozen=True)
class EvaluationReport:
    """Scores, and all that they depend on.

    Attributes:
        scores: The scores.
        model: Variant.
        output_stride: That of the evaluation, which may differ from training; None for a model
            that has none to choose.
        training: How the weights came about, as their card says.
        data: Folder of the data set.
        split: Which of its splits.
        data_fingerprint: Changes when the files of the split do.
        num_images: Pictures in the split.
        views: Scales, mirror images and windows.
        precision: `32` or `bf16`.
        device: What it was computed on.
        seconds: Time of the pass, reading included.
    """

    scores: Scores
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

    def to_json(self) -> dict[str, Any]:
        """Return plain values for a JSON file: the scores at the top level, then the rest."""
        facts = {key: value for key, value in asdict(self).items() if key != "scores"}
        return {**self.scores.to_json(), **facts}


def evaluate_model(
    model: Segmenter,
    dataset: SegmentationDataset,
    *,
    views: Views = Views(),  # noqa: B008 (immutable)
    precision: Precision = "32",
    workers: int = 0,
    criterion: Criterion | None = None,
    on_image: OnImage | None = None,
    rank: int = 0,
    world_size: int = 1,
) -> Evaluation:
    """Count a model's hits and misses at the masks' own resolution.

    Memory does not grow with the number of pictures. The model is evaluated in evaluation mode
    and left in the mode it was in.

    Args:
        model: A model with a card, on the device to use.
        dataset: One split; as many classes as the model.
        views: Scales, mirror images and windows to look through.
        precision: `32`, `bf16` or `auto`.
        workers: Processes that read ahead.
        criterion: Loss to average over the pictures, weighted by their labelled pixels.
        on_image: Called after each picture; what it raises ends the evaluation.
        rank: This process takes pictures rank, rank + world_size, … The counts of all add up.
        world_size: Processes that share the split.

    Raises:
        DataError: The classes do not fit, or a file cannot be used.
    """
    engine = TorchEngine(model, views=views, precision=precision)
    check_classes(model, dataset)
    counts, loss_sum, num_labelled = Counts(len(dataset.classes)), 0.0, 0
    modes = [(module, module.training) for module in model.modules()]
    start_s = time.perf_counter()
    model.eval()
    try:
        samples = build_eval_loader(dataset, workers=workers, rank=rank, world_size=world_size)
        for sample in samples:
            logits = engine.compute_logits(sample.image)
            image_counts = counts.update(compute_mask(logits), sample.mask)
            # Each labelled pixel is either a hit or a miss of its own class.
            num_pixels = int(image_counts[:, [0, 2]].sum())
            if criterion is not None and num_pixels:
                loss_sum += num_pixels * _compute_loss(criterion, logits, sample.mask)
                num_labelled += num_pixels
            if on_image is not None:
                on_image(sample.name, image_counts)
    finally:
        for module, training in modes:
            module.training = training
    loss = None if criterion is None else loss_sum / max(num_labelled, 1)
    return Evaluation(counts, loss, time.perf_counter() - start_s)


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
    workers: int = 0,
    progress: Callable[[int, int], object] | None = None,
) -> EvaluationReport:
    """Score a trained model on a split, at the masks' own resolution.

    Of a run folder, `evaluation/SPLIT.json` then holds the scores and `SPLIT-counts.jsonl` a line
    per picture: its name and, for each class in it, `[tp, fp, fn]` in pixels.

        from atrous import evaluate

        report = evaluate("runs/camvid", split="val")
        print(report.scores.miou, report.scores.per_class)

    Args:
        run_or_file: Run folder, of which the best weights are taken, or a weights file.
        data: Folder of the data set; unset, that of the run.
        split: Name of the split; unset, the run's validation split, else `val`.
        format: `voc`, `pairs`, or `auto` to look.
        ignore_index: Mask value of no class; unset, what the run or the data says.
        views: Scales, mirror images and windows to look through.
        output_stride: Another output stride than in training, such as 8 after 16.
        device: `auto`, `cpu`, `cuda`, `cuda:1`, …
        precision: `32`, `bf16`, or `auto` for bf16 where the device computes in it natively.
        workers: Processes that read ahead.
        progress: Called after each picture with the number of pictures done and of all.

    Raises:
        ConfigError: An option or device cannot be used, or no data is given.
        DataError: The data cannot be used, or has another number of classes than the model.
        WeightsError: The weights cannot be used.
    """
    path, torch_device = Path(run_or_file), resolve_device(device)
    model = load_model(path, device=torch_device)
    dataset = _open_data(path, data, split, format, ignore_index)
    if output_stride is not None:
        model = set_output_stride(model, output_stride)

    reports: list[EvaluationReport] = []

    def run(counts_file: BinaryIO) -> None:
        sink = _Sink(counts_file, len(dataset), progress)
        evaluation = evaluate_model(
            model, dataset, views=views, precision=precision, workers=workers, on_image=sink
        )
        reports.append(_build_report(model, dataset, evaluation, views, precision))

    if path.is_dir():
        _save(path / "evaluation", dataset.split, run, reports)
    else:
        with open(os.devnull, "wb") as nowhere:
            run(nowhere)
    return reports[0]


def check_classes(model: Segmenter, dataset: SegmentationDataset) -> None:
    """Raise DataError unless a model and a data set have equally many classes."""
    if model.num_classes != len(dataset.classes):
        raise DataError(
            f"The data set {dataset.root} has {len(dataset.classes)} classes "
            f"({', '.join(dataset.classes.names)}), but the model {model.name} was trained for "
            f"{model.num_classes}. Give the data that it was trained for, or other weights."
        )


@dataclass
class _Sink:
    """Writes a line of counts per picture, and tells how far things are."""

    file: BinaryIO
    num_images: int
    progress: Callable[[int, int], object] | None
    num_done: int = 0

    def __call__(self, name: str, counts: CountArray) -> None:
        self.file.write(format_image_counts(name, counts))
        self.num_done += 1
        if self.progress is not None:
            self.progress(self.num_done, self.num_images)


def _open_data(
    path: Path, root: Path | str | None, split: str | None, format: str, ignore_index: int | None
) -> SegmentationDataset:
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


def _save(
    folder: Path, split: str, run: Callable[[BinaryIO], None], reports: list[EvaluationReport]
) -> None:
    """Let `run` write its counts and append its report, and save that beside them."""
    try:
        folder.mkdir(exist_ok=True)
        write_atomically(folder / f"{split}-counts.jsonl", run)
        text = json.dumps(reports[0].to_json(), indent=2) + "\n"
        write_atomically(folder / f"{split}.json", lambda file: file.write(text.encode()))
    except OSError as error:
        raise AtrousError(
            f"Cannot write the evaluation to {folder}: {error.strerror or error}. What an earlier "
            "evaluation wrote there is untouched. Free space, or evaluate the weights file itself."
        ) from error


@torch.inference_mode()
def _compute_loss(criterion: Criterion, logits: Tensor, mask: Tensor) -> float:
    target = mask.as_subclass(Tensor).to(logits.device, torch.int64)
    return float(criterion(logits[None], target[None]))


def _build_report(
    model: Segmenter,
    dataset: SegmentationDataset,
    evaluation: Evaluation,
    views: Views,
    precision: Precision,
) -> EvaluationReport:
    assert model.card is not None
    device = next(model.parameters()).device
    return EvaluationReport(
        scores=compute_scores(evaluation.counts, dataset.classes),
        model=model.name,
        output_stride=model.options.get("output_stride"),
        training=model.card.training,
        data=str(dataset.root),
        split=dataset.split,
        data_fingerprint=dataset.fingerprint(),
        num_images=evaluation.counts.num_images,
        views=views,
        precision=resolve_precision(precision, device),
        device=str(device),
        seconds=round(evaluation.seconds, 3),
    )
