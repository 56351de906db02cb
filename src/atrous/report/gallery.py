"""Images on pages: chosen images with ground truth, predictions and errors of runs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

from atrous.classes import IGNORE_INDEX, Classes
from atrous.data import Sample, SegmentationDataset
from atrous.devices import resolve_device
from atrous.engines import TTA, TorchEngine
from atrous.engines.logits import compute_confidence, compute_mask
from atrous.errors import ConfigError, DataError
from atrous.evaluation.evaluate import open_run_data
from atrous.evaluation.evaluator import Progress, check_classes
from atrous.evaluation.run_reader import EvaluatedRun, LoadedRun
from atrous.images.pixels import convert_to_rgb
from atrous.models import load_model
from atrous.models.zoo import set_output_stride

WRONG = (214, 30, 60)
IGNORED = (140, 140, 140)
UNCERTAIN = (123, 44, 191)
_NUM_LEVELS = 64

MAX_IMAGES = 20
MAX_SIDE_PX = 640
_MAX_BYTES = 7_000_000
_BYTES_PER_PIXEL = 3.0

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class ImageLayers:
    """One image, layers over it of the same size, and the classes in mask or prediction.

    The layers are `ground truth`, `prediction`, `errors` and `confidence`, transparent where there
    is nothing to show.
    """

    name: str
    miou: float
    image: Image.Image
    layers: dict[str, Image.Image]
    class_indices: frozenset[int]


@dataclass(frozen=True)
class Gallery:
    """Chosen images by rank, such as `best`: one row per image, with the layers of each run.

    The legend is name and RGB colour of each class in the images; `is_changed` tells that the files
    of the split changed since the evaluation of a run.
    """

    names: tuple[str, ...]
    groups: dict[str, list[tuple[ImageLayers, ...]]]
    legend: tuple[tuple[str, tuple[int, int, int]], ...]
    is_changed: bool


def build_gallery(
    runs: Sequence[LoadedRun],
    chosen: Mapping[str, Sequence[str]],
    *,
    num_on_page: int | None = None,
    device: str = "auto",
    progress: Progress | None = None,
) -> Gallery:
    """Predict images with each run under the conditions of its evaluation.

    The runs were evaluated on the same split; `chosen` are names of images by rank. `num_on_page`
    is the number of images on the whole page, which limits their size, if there are others.
    """
    names = [name for group in chosen.values() for name in group]
    total = len(runs) * len(names)
    pixels_per_image = _MAX_BYTES / _BYTES_PER_PIXEL / max(num_on_page or total, 1)
    max_side_px = min(MAX_SIDE_PX, int(pixels_per_image**0.5))
    rows: dict[str, list[ImageLayers]] = {name: [] for name in names}
    is_changed = False
    for run in runs:
        engine, dataset = _open_evaluated(run, device)
        is_changed |= run.scores.get("data_fingerprint") != dataset.fingerprint()
        counts = run.load_image_counts()
        temperature = (run.scores.get("confidence") or {}).get("temperature") or 1.0
        miou = dict(zip(counts.names, counts.compute_miou().tolist(), strict=True))
        for name in names:
            if name not in dataset.names:
                raise DataError(f"The image {name} is no longer in {dataset.root}.")
            sample = dataset.load(dataset.names.index(name))
            layers = render_layers(engine, sample, miou[name], temperature, max_side_px)
            rows[name].append(layers)
            if progress is not None:
                progress(sum(map(len, rows.values())), total)
    occurring = frozenset().union(*(one.class_indices for row in rows.values() for one in row))
    classes = engine.card.classes
    return Gallery(
        names=tuple(run.name for run in runs),
        groups={rank: [tuple(rows[name]) for name in group] for rank, group in chosen.items()},
        legend=tuple((classes.names[index], classes.colors[index]) for index in sorted(occurring)),
        is_changed=is_changed,
    )


def choose_most_different(runs: Sequence[EvaluatedRun], num_images: int) -> dict[str, list[str]]:
    """Return the images whose mIoU differs most between the runs, as one group, or none."""
    spread = np.nan_to_num(np.ptp([run.images.compute_miou() for run in runs], axis=0))
    order = np.argsort(-spread, kind="stable")[:num_images]
    names = [runs[0].images.names[index] for index in order if spread[index] > 0]
    return {"most different": names} if names else {}


def check_num_images(num_images: int) -> None:
    """Raise ConfigError if a page is not made for so many images."""
    if not 0 <= num_images <= MAX_IMAGES:
        raise ConfigError(f"--num-images takes a number from 0 to {MAX_IMAGES}, not {num_images}.")


def choose_images(run: LoadedRun, num_images: int) -> dict[str, list[str]]:
    """Return the names of the best, median and worst images by their own mIoU.

    Images without a labelled pixel have no rank. If there are fewer images than three groups
    need, all form one group.
    """
    counts = run.load_image_counts()
    miou = counts.compute_miou()
    order = np.argsort(-miou, kind="stable")
    names = [counts.names[index] for index in order if np.isfinite(miou[index])]
    if not num_images or not names:
        return {}
    if len(names) < 3 * num_images:
        return {"all": names}
    middle = (len(names) - num_images) // 2
    return {
        "best": names[:num_images],
        "median": names[middle : middle + num_images],
        "worst": names[: -num_images - 1 : -1],
    }


def render_layers(
    engine: TorchEngine, sample: Sample, miou: float, temperature: float, max_side_px: int
) -> ImageLayers:
    """Predict one image and render its layers, downscaled if larger than `max_side_px`."""
    logits = engine.compute_logits(sample.image)
    confidence = compute_confidence(logits, temperature).cpu().numpy()
    predicted = compute_mask(logits).cpu().numpy()
    true = sample.mask.numpy()
    pixels = convert_to_rgb(sample.image, engine.card.ranges).permute(1, 2, 0).numpy()
    errors = np.where(true == IGNORE_INDEX, 2, predicted != true).astype(np.uint8)
    layers = {
        "ground truth": _color_classes(true, engine.classes),
        "prediction": _color_classes(predicted, engine.classes),
        "errors": _color(errors, [0, 0, 0, *WRONG, *IGNORED], [0, 255, 255]),
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


def _open_evaluated(run: LoadedRun, device: str) -> tuple[TorchEngine, SegmentationDataset]:
    """Open the model and the split of a run's evaluation, with the options of the evaluation."""
    scores, path = run.scores, run.folder.path
    model = load_model(path, device=resolve_device(device))
    stride = scores.get("output_stride") or model.options.get("output_stride")
    model = set_output_stride(model, stride)
    tta = TTA.from_json(scores.get("tta") or {})
    engine = TorchEngine(model, tta=tta, precision=scores.get("precision", "32"))
    dataset = open_run_data(path, engine.card, scores["data"], scores["split"], "auto", None)
    check_classes(engine.card, dataset)
    return engine, dataset


def _color_classes(indices: Pixels, classes: Classes) -> Image.Image:
    """Return a palette image; ignored pixels and black classes are transparent."""
    opacity = [0 if color == (0, 0, 0) else 255 for color in classes.colors]
    return _color(indices, classes.palette, opacity + [0] * (256 - len(classes)))


def _color_confidence(confidence: npt.NDArray[np.float32]) -> Image.Image:
    """Return one colour, more opaque at lower confidence."""
    levels = np.minimum((1 - confidence) * _NUM_LEVELS, _NUM_LEVELS - 1).astype(np.uint8)
    opacity = np.linspace(0, 255, _NUM_LEVELS).round().astype(np.uint8)
    return _color(levels, [*UNCERTAIN] * _NUM_LEVELS, opacity.tolist())


def _color(indices: Pixels, palette: Sequence[int], opacity: Sequence[int]) -> Image.Image:
    image = Image.fromarray(indices)
    image.putpalette(palette)
    image.info["transparency"] = bytes(opacity)
    return image


def _resize(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    if image.size == size:
        return image
    if image.mode == "RGB":
        return image.resize(size, Image.Resampling.LANCZOS)
    resized = image.resize(size, Image.Resampling.NEAREST)
    resized.info["transparency"] = image.info["transparency"]
    return resized
