"""The best, median and worst pictures of an evaluation, with what the model makes of them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from atrous.classes import VOID, Classes
from atrous.data import Sample, SegmentationDataset, open_dataset
from atrous.devices import resolve_device
from atrous.engines import TorchEngine, Views
from atrous.engines.logits import compute_confidence, compute_mask
from atrous.errors import DataError
from atrous.evaluation import load_image_counts
from atrous.evaluation.evaluate_model import check_classes
from atrous.models import load_model
from atrous.models.zoo import set_output_stride
from atrous.report.loaded_run import LoadedRun

WRONG = (214, 30, 60)
UNLABELLED = (140, 140, 140)
UNSURE = (123, 44, 191)
_LEVELS = 64

LARGEST_PX = 640
_BUDGET_BYTES = 7_000_000
_BYTES_PER_PIXEL = 3.0

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class PictureViews:
    """One picture, and what lies over it; all of one size.

    Attributes:
        miou: Mean IoU over the classes of its mask.
        layers: `truth`, `prediction`, `errors` and `confidence`; pixels that say nothing are
            transparent.
    """

    name: str
    miou: float
    image: Image.Image
    layers: dict[str, Image.Image]
    class_indices: frozenset[int]


@dataclass(frozen=True)
class PictureGroup:
    """Pictures of one rank: `best`, `median` or `worst`, or `all` where they are few."""

    rank: str
    pictures: tuple[PictureViews, ...]


@dataclass(frozen=True)
class Gallery:
    """All pictures of a run.

    Attributes:
        legend: Name and RGB colour of each class that is seen in them.
        has_other_files: Whether the files are not those that were scored.
    """

    groups: tuple[PictureGroup, ...]
    legend: tuple[tuple[str, tuple[int, int, int]], ...]
    least_confidence: float
    has_other_files: bool


def build_gallery(
    run: LoadedRun,
    *,
    num_pictures: int,
    num_shown: int,
    device: str = "auto",
    progress: Callable[[int, int], object] | None = None,
) -> Gallery:
    """Choose pictures by their own mIoU and predict them again as the evaluation did.

    Args:
        run: An evaluated run.
        num_pictures: How many of the best, of the median and of the worst.
        num_shown: Pictures of the whole page, which bounds their size.
        device: `auto`, `cpu`, `cuda`, …
        progress: Called after each picture with the number of pictures done and of all.

    Raises:
        DataError: The data is gone or cannot be used, or the counts per picture cannot be read.
        WeightsError: The weights cannot be used.
        ConfigError: There is no such device.
    """
    chosen = choose_pictures(run, num_pictures)
    dataset = open_scored_data(run)
    places = {name: index for index, name in enumerate(dataset.names)}
    missing = [name for picks in chosen.values() for name, _ in picks if name not in places]
    if missing:
        raise DataError(f"{dataset.root} no longer holds the picture {missing[0]}.")
    engine = build_scored_engine(run, dataset, device)
    largest_px = min(LARGEST_PX, int((_BUDGET_BYTES / _BYTES_PER_PIXEL / num_shown) ** 0.5))
    total, groups = sum(map(len, chosen.values())), []
    num_done = 0
    for rank, picks in chosen.items():
        pictures = []
        for name, miou in picks:
            sample = dataset.load(places[name])
            pictures.append(render_views(engine, sample, miou, run.temperature, largest_px))
            num_done += 1
            if progress is not None:
                progress(num_done, total)
        groups.append(PictureGroup(rank, tuple(pictures)))
    return Gallery(
        groups=tuple(groups),
        legend=list_legend(
            [picture for group in groups for picture in group.pictures], engine.classes
        ),
        least_confidence=1 / len(engine.classes),
        has_other_files=run.scores.get("data_fingerprint") != dataset.fingerprint(),
    )


def choose_pictures(run: LoadedRun, num_pictures: int) -> dict[str, list[tuple[str, float]]]:
    """Return names and mIoU of the best, median and worst pictures.

    Pictures without a labelled pixel have no rank. Of fewer pictures than three groups need, all
    are one group.

    Raises:
        DataError: The counts per picture cannot be read.
    """
    counts = load_image_counts(run.counts_path, len(run.scores["per_class"]))
    miou = counts.compute_miou()
    order = [int(index) for index in np.argsort(-miou, kind="stable") if np.isfinite(miou[index])]

    def pick(indices: Sequence[int]) -> list[tuple[str, float]]:
        return [(counts.names[index], float(miou[index])) for index in indices]

    if not num_pictures or not order:
        return {}
    if len(order) < 3 * num_pictures:
        return {"all": pick(order)}
    middle = (len(order) - num_pictures) // 2
    return {
        "best": pick(order[:num_pictures]),
        "median": pick(order[middle : middle + num_pictures]),
        "worst": pick(order[: -num_pictures - 1 : -1]),
    }


def render_views(
    engine: TorchEngine, sample: Sample, miou: float, temperature: float, largest_px: int
) -> PictureViews:
    """Predict one picture and draw what lies over it.

    Args:
        engine: The model.
        sample: Picture and mask.
        miou: The picture's score.
        temperature: Divides the logits before the softmax.
        largest_px: Longest side; larger pictures are made smaller.
    """
    logits = engine.compute_logits(sample.image)
    confidence = compute_confidence(logits, temperature).cpu().numpy()
    found = compute_mask(logits).cpu().numpy()
    truth = sample.mask.as_subclass(torch.Tensor).numpy()
    pixels = sample.image.as_subclass(torch.Tensor).permute(1, 2, 0).numpy()
    layers = {
        "truth": _color_classes(truth, engine.classes),
        "prediction": _color_classes(found, engine.classes),
        "errors": _color_errors(found, truth),
        "confidence": _color_confidence(confidence),
    }
    height, width = truth.shape
    factor = min(1.0, largest_px / max(height, width))
    size = max(1, round(width * factor)), max(1, round(height * factor))
    seen = frozenset(np.unique(truth).tolist()) | frozenset(np.unique(found).tolist())
    return PictureViews(
        name=sample.name,
        miou=miou,
        image=_resize(Image.fromarray(np.ascontiguousarray(pixels)), size),
        layers={name: _resize(layer, size) for name, layer in layers.items()},
        class_indices=seen - {VOID},
    )


def open_scored_data(run: LoadedRun) -> SegmentationDataset:
    """Open the split that a run was scored on."""
    settings = run.recipe.data
    return open_dataset(
        run.scores["data"],
        run.scores["split"],
        format=settings.format if run.scores["data"] == settings.root else "auto",
        ignore_index=settings.ignore_index,
    )


def build_scored_engine(run: LoadedRun, dataset: SegmentationDataset, device: str) -> TorchEngine:
    """Load a run's model to predict as its evaluation did."""
    model = load_model(run.folder.path, device=resolve_device(device))
    stride = run.scores.get("output_stride")
    if stride is not None:
        model = set_output_stride(model, stride)
    views = Views.from_json(run.scores.get("views") or {})
    engine = TorchEngine(model, views=views, precision=run.scores.get("precision", "32"))
    check_classes(engine.card, dataset)
    return engine


def _color_classes(indices: Pixels, classes: Classes) -> Image.Image:
    """Return a palette picture; void and classes of black leave the picture below as it is."""
    picture = Image.fromarray(indices)
    picture.putpalette(classes.palette)
    opacity = [255] * len(classes) + [0] * (256 - len(classes))
    for index, color in enumerate(classes.colors):
        opacity[index] = 0 if color == (0, 0, 0) else 255
    picture.info["transparency"] = bytes(opacity)
    return picture


def _color_errors(found: Pixels, truth: Pixels) -> Image.Image:
    kinds = np.where(truth == VOID, 2, (found != truth).astype(np.uint8)).astype(np.uint8)
    picture = Image.fromarray(kinds)
    picture.putpalette([0, 0, 0, *WRONG, *UNLABELLED])
    picture.info["transparency"] = bytes([0, 255, 255])
    return picture


def _color_confidence(confidence: npt.NDArray[np.float32]) -> Image.Image:
    """Return one colour, the more opaque the less sure the model is."""
    levels = np.minimum((1 - confidence) * _LEVELS, _LEVELS - 1).astype(np.uint8)
    picture = Image.fromarray(levels)
    picture.putpalette([*UNSURE] * _LEVELS)
    opacity = np.linspace(0, 255, _LEVELS).round().astype(np.uint8)
    picture.info["transparency"] = opacity.tobytes()
    return picture


def _resize(picture: Image.Image, size: tuple[int, int]) -> Image.Image:
    if picture.size == size:
        return picture
    if picture.mode == "RGB":
        return picture.resize(size, Image.Resampling.LANCZOS)
    smaller = picture.resize(size, Image.Resampling.NEAREST)
    smaller.info["transparency"] = picture.info["transparency"]
    return smaller


def list_legend(
    pictures: Sequence[PictureViews], classes: Classes
) -> tuple[tuple[str, tuple[int, int, int]], ...]:
    """Return name and colour of each class that is seen in some pictures."""
    seen = sorted(frozenset().union(*(picture.class_indices for picture in pictures)))
    return tuple((classes.names[index], classes.colors[index]) for index in seen)
