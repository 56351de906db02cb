"""Gallery of a report: the best, median and worst images, with predictions and ground truth."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

from atrous.classes import IGNORE_INDEX, Classes
from atrous.data import Sample, SegmentationDataset, open_dataset
from atrous.devices import resolve_device
from atrous.engines import TTA, TorchEngine
from atrous.engines.logits import compute_confidence, compute_mask
from atrous.errors import DataError
from atrous.evaluation.evaluator import Progress, check_classes
from atrous.evaluation.run_reader import LoadedRun
from atrous.models import load_model
from atrous.models.zoo import set_output_stride

WRONG = (214, 30, 60)
IGNORED = (140, 140, 140)
UNCERTAIN = (123, 44, 191)
_NUM_LEVELS = 64

MAX_SIDE_PX = 640
_MAX_BYTES = 7_000_000
_BYTES_PER_PIXEL = 3.0

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class ImageLayers:
    """One image and the layers over it, all of one size.

    Attributes:
        miou: Mean IoU over the classes in the image's mask.
        layers: `ground truth`, `prediction`, `errors` and `confidence`, transparent where there is
            nothing to show.
        class_indices: Classes in the prediction or the ground truth.
    """

    name: str
    miou: float
    image: Image.Image
    layers: dict[str, Image.Image]
    class_indices: frozenset[int]


@dataclass(frozen=True)
class GalleryGroup:
    """Images of one rank: `best`, `median` or `worst`, or `all` if there are few."""

    rank: str
    images: tuple[ImageLayers, ...]


@dataclass(frozen=True)
class Gallery:
    """Chosen images of a run.

    Attributes:
        legend: Name and RGB colour of each class in the images.
        is_changed: Whether the files of the split changed since the evaluation.
    """

    groups: tuple[GalleryGroup, ...]
    legend: tuple[tuple[str, tuple[int, int, int]], ...]
    is_changed: bool


def build_gallery(
    run: LoadedRun,
    *,
    num_images: int,
    num_on_page: int,
    device: str = "auto",
    progress: Progress | None = None,
) -> Gallery:
    """Choose images by their own mIoU and predict them under the conditions of the evaluation.

    Args:
        run: An evaluated run.
        num_images: Number of best, of median and of worst images.
        num_on_page: Number of images on the whole page, which limits their size.
        device: `auto`, `cpu`, `cuda`, …
        progress: Called after each image with the number of images done and the total.

    Raises:
        DataError: The dataset or the counts per image cannot be read.
        WeightsError: The weights cannot be used.
        ConfigError: The device does not exist.
    """
    chosen = choose_images(run, num_images)
    dataset = open_evaluated_split(run)
    indices = {name: index for index, name in enumerate(dataset.names)}
    missing = [name for picks in chosen.values() for name, _ in picks if name not in indices]
    if missing:
        raise DataError(f"The image {missing[0]} is no longer in {dataset.root}.")
    engine = build_evaluated_engine(run, dataset, device)
    max_side_px = min(MAX_SIDE_PX, int((_MAX_BYTES / _BYTES_PER_PIXEL / num_on_page) ** 0.5))
    total, groups = sum(map(len, chosen.values())), []
    num_done = 0
    for rank, picks in chosen.items():
        images = []
        for name, miou in picks:
            sample = dataset.load(indices[name])
            images.append(render_layers(engine, sample, miou, run.temperature, max_side_px))
            num_done += 1
            if progress is not None:
                progress(num_done, total)
        groups.append(GalleryGroup(rank, tuple(images)))
    return Gallery(
        groups=tuple(groups),
        legend=list_legend([image for group in groups for image in group.images], engine.classes),
        is_changed=run.scores.get("data_fingerprint") != dataset.fingerprint(),
    )


def choose_images(run: LoadedRun, num_images: int) -> dict[str, list[tuple[str, float]]]:
    """Return names and mIoU of the best, median and worst images.

    Images without a labelled pixel have no rank. If there are fewer images than three groups
    need, all form one group.

    Raises:
        DataError: The counts per image cannot be read.
    """
    counts = run.load_image_counts()
    miou = counts.compute_miou()
    order = [int(index) for index in np.argsort(-miou, kind="stable") if np.isfinite(miou[index])]

    def pick(indices: Sequence[int]) -> list[tuple[str, float]]:
        return [(counts.names[index], float(miou[index])) for index in indices]

    if not num_images or not order:
        return {}
    if len(order) < 3 * num_images:
        return {"all": pick(order)}
    middle = (len(order) - num_images) // 2
    return {
        "best": pick(order[:num_images]),
        "median": pick(order[middle : middle + num_images]),
        "worst": pick(order[: -num_images - 1 : -1]),
    }


def render_layers(
    engine: TorchEngine, sample: Sample, miou: float, temperature: float, max_side_px: int
) -> ImageLayers:
    """Predict one image and render its layers.

    Args:
        engine: Runs the network.
        sample: Image and mask.
        miou: Score of the image.
        temperature: Divisor of the logits before the softmax.
        max_side_px: Longest side of the result; larger images are downscaled.
    """
    logits = engine.compute_logits(sample.image)
    confidence = compute_confidence(logits, temperature).cpu().numpy()
    predicted = compute_mask(logits).cpu().numpy()
    true = sample.mask.numpy()
    pixels = sample.image.permute(1, 2, 0).numpy()
    layers = {
        "ground truth": _color_classes(true, engine.classes),
        "prediction": _color_classes(predicted, engine.classes),
        "errors": _color_errors(predicted, true),
        "confidence": _color_confidence(confidence),
    }
    height, width = true.shape
    factor = min(1.0, max_side_px / max(height, width))
    size = max(1, round(width * factor)), max(1, round(height * factor))
    occurring = frozenset(np.unique(true).tolist()) | frozenset(np.unique(predicted).tolist())
    return ImageLayers(
        name=sample.name,
        miou=miou,
        image=_resize(Image.fromarray(np.ascontiguousarray(pixels)), size),
        layers={name: _resize(layer, size) for name, layer in layers.items()},
        class_indices=occurring - {IGNORE_INDEX},
    )


def open_evaluated_split(run: LoadedRun) -> SegmentationDataset:
    """Open the split that a run was evaluated on."""
    settings = run.recipe.data
    return open_dataset(
        run.scores["data"],
        run.scores["split"],
        format=settings.format if run.scores["data"] == settings.root else "auto",
        ignore_index=settings.ignore_index,
    ).select(settings.class_selection)


def build_evaluated_engine(
    run: LoadedRun, dataset: SegmentationDataset, device: str
) -> TorchEngine:
    """Build an engine with the options of a run's evaluation."""
    model = load_model(run.folder.path, device=resolve_device(device))
    stride = run.scores.get("output_stride")
    if stride is not None:
        model = set_output_stride(model, stride)
    tta = TTA.from_json(run.scores.get("tta") or {})
    engine = TorchEngine(model, tta=tta, precision=run.scores.get("precision", "32"))
    check_classes(engine.card, dataset)
    return engine


def list_legend(
    images: Sequence[ImageLayers], classes: Classes
) -> tuple[tuple[str, tuple[int, int, int]], ...]:
    """Return name and RGB colour of each class in some images."""
    indices = sorted(frozenset().union(*(image.class_indices for image in images)))
    return tuple((classes.names[index], classes.colors[index]) for index in indices)


def _color_classes(indices: Pixels, classes: Classes) -> Image.Image:
    """Return a palette image; ignored pixels and black classes are transparent."""
    image = Image.fromarray(indices)
    image.putpalette(classes.palette)
    opacity = [255] * len(classes) + [0] * (256 - len(classes))
    for index, color in enumerate(classes.colors):
        opacity[index] = 0 if color == (0, 0, 0) else 255
    image.info["transparency"] = bytes(opacity)
    return image


def _color_errors(predicted: Pixels, true: Pixels) -> Image.Image:
    kinds = np.where(true == IGNORE_INDEX, 2, (predicted != true).astype(np.uint8)).astype(np.uint8)
    image = Image.fromarray(kinds)
    image.putpalette([0, 0, 0, *WRONG, *IGNORED])
    image.info["transparency"] = bytes([0, 255, 255])
    return image


def _color_confidence(confidence: npt.NDArray[np.float32]) -> Image.Image:
    """Return one colour, more opaque at lower confidence."""
    levels = np.minimum((1 - confidence) * _NUM_LEVELS, _NUM_LEVELS - 1).astype(np.uint8)
    image = Image.fromarray(levels)
    image.putpalette([*UNCERTAIN] * _NUM_LEVELS)
    opacity = np.linspace(0, 255, _NUM_LEVELS).round().astype(np.uint8)
    image.info["transparency"] = opacity.tobytes()
    return image


def _resize(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    if image.size == size:
        return image
    if image.mode == "RGB":
        return image.resize(size, Image.Resampling.LANCZOS)
    resized = image.resize(size, Image.Resampling.NEAREST)
    resized.info["transparency"] = image.info["transparency"]
    return resized
