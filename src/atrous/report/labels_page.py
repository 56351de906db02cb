"""HTML page of `atrous check --model`: the regions whose labels are most likely wrong."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy import ndimage

from atrous.data import SegmentationDataset
from atrous.engines import Engine
from atrous.evaluation.evaluator import Progress
from atrous.evaluation.label_parts import ASSUMED_SHARE
from atrous.evaluation.label_quality import LabelReport, Models, RankedRegion
from atrous.images.pixels import convert_to_rgb
from atrous.prediction.render import tint
from atrous.report.gallery import WRONG
from atrous.report.html import format_data_uri, render_page

MAX_REGIONS = 60
_MAX_IMAGES = 200
_TILE_HW = 225, 300
_CONTEXT, _MIN_CROP_PX = 1.8, 64
_OPACITY = 0.55

Pixels = npt.NDArray[np.uint8]


def render_labels_page(
    report: LabelReport,
    models: Models,
    dataset: SegmentationDataset,
    *,
    model: str,
    progress: Progress | None = None,
) -> str:
    """Return the first regions of a ranking as a self-contained HTML page.

    The models that ranked it predict the images of these regions again. `model` is their name on
    the page.
    """
    shown = report.regions[:MAX_REGIONS]
    tiles = dict(_render_all(shown, models, progress))
    return render_page(
        "labels.html",
        name=Path(dataset.root).resolve().name,
        split=dataset.split,
        verdict=report.describe_verdict(),
        assumed=f"{ASSUMED_SHARE:.0%}",
        facts=[
            ("Split", dataset.split),
            ("Images", f"{len(report.images):,}"),
            ("Label regions", f"{report.num_regions:,}"),
            ("Model", model),
        ],
        regions=[_describe(rank, row, tiles) for rank, row in enumerate(shown, start=1)],
        num_more=len(report.regions) - len(shown),
        images=report.images[:_MAX_IMAGES],
        num_more_images=max(0, len(report.images) - _MAX_IMAGES),
    )


def _describe(rank: int, row: RankedRegion, tiles: dict[RankedRegion, Any]) -> dict[str, Any]:
    left, top, right, bottom = row.box
    names = ("image", f"ground truth: {row.given}", f"prediction: {row.suggested}")
    return vars(row) | {
        "rank": rank,
        "place": f"x {left} to {right}, y {top} to {bottom}",
        "tiles": list(zip(names, tiles[row], strict=True)),
    }


def _render_all(
    rows: Sequence[RankedRegion], models: Models, progress: Progress | None
) -> Iterator[tuple[RankedRegion, list[str]]]:
    wanted, num_done = {row.image for row in rows}, 0
    for engine, part in models:
        for index in [i for i, name in enumerate(part.names) if name in wanted]:
            sample = part.load(index)
            predicted = engine.predict_mask(sample.image).cpu().numpy()
            pixels = convert_to_rgb(sample.image, engine.card.ranges).permute(1, 2, 0).numpy()
            layers = pixels, sample.mask.numpy(), predicted
            for row in rows:
                if row.image == sample.name:
                    yield row, [format_data_uri(tile, 0) for tile in _render(row, *layers, engine)]
            num_done += 1
            if progress is not None:
                progress(num_done, len(wanted))


def _render(
    row: RankedRegion, pixels: Pixels, mask: Pixels, predicted: Pixels, engine: Engine
) -> list[Image.Image]:
    """Return the image, the ground truth and the prediction around a part, which is outlined."""
    classes, place = engine.classes, _find_crop(row.box, mask.shape)
    part = np.zeros(mask.shape, np.bool_)
    box = np.s_[row.box[1] : row.box[3], row.box[0] : row.box[2]]
    given, suggested = classes.names.index(row.given), classes.names.index(row.suggested)
    part[box] = (mask[box] == given) & (predicted[box] == suggested)
    labels = mask[place], predicted[place]
    crops = [pixels[place], *(tint(pixels[place], one, classes, _OPACITY) for one in labels)]
    outline = _enlarge(Image.fromarray(part[place]), Image.Resampling.NEAREST)
    inside = np.asarray(outline)
    edge = ndimage.binary_dilation(inside, iterations=2) & ~inside
    tiles = []
    for crop in crops:
        tile = np.array(_enlarge(Image.fromarray(crop), Image.Resampling.BICUBIC))
        tile[ndimage.binary_dilation(edge)] = 255
        tile[edge] = WRONG
        tiles.append(Image.fromarray(tile))
    return tiles


def _find_crop(box: tuple[int, ...], size_hw: tuple[int, ...]) -> tuple[slice, slice]:
    """Return a piece around a box, in the proportions of a tile where the image is large enough."""
    left, top, right, bottom = box
    unit = max((bottom - top) / _TILE_HW[0], (right - left) / _TILE_HW[1]) * _CONTEXT
    unit = max(unit, _MIN_CROP_PX / _TILE_HW[0])
    crop_h, crop_w = (min(round(unit * t), s) for t, s in zip(_TILE_HW, size_hw, strict=True))
    x = min(max(0, (left + right - crop_w) // 2), size_hw[1] - crop_w)
    y = min(max(0, (top + bottom - crop_h) // 2), size_hw[0] - crop_h)
    return slice(y, y + crop_h), slice(x, x + crop_w)


def _enlarge(image: Image.Image, method: Image.Resampling) -> Image.Image:
    factor = min(_TILE_HW[0] / image.height, _TILE_HW[1] / image.width)
    size = max(1, round(image.width * factor)), max(1, round(image.height * factor))
    return image.resize(size, method)
