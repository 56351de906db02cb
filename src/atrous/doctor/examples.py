"""Example images of a finding."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from atrous.classes import Classes
from atrous.doctor.findings import Finding, FoundFile
from atrous.doctor.survey import Survey
from atrous.errors import DataError
from atrous.images.arrays import open_array
from atrous.images.image_file import decode_image
from atrous.images.reading import holds_indices, render_preview
from atrous.images.shard_file import File

MAX_EXAMPLES = 6

_TILE_HW = 150, 200
_OVERLAID = {"misaligned", "exif-rotation", "exif-unclear"}
_ZOOM_PX = 40


@dataclass(frozen=True)
class Example:
    """Small images of a file, RGB, side by side; None for a file that cannot be read."""

    file: FoundFile
    tiles: tuple[Image.Image | None, ...]


def render_examples(finding: Finding, survey: Survey) -> list[Example]:
    """Render up to six examples of a finding.

    Masks that may be misaligned are drawn over their images; of interpolated masks, a piece of an
    edge is enlarged.
    """
    number = min(len(finding.files), MAX_EXAMPLES)  # spread over the list, to vary them
    chosen = [finding.files[i * len(finding.files) // number] for i in range(number)]
    return [
        Example(file, tuple(map(_fit_tile, _list_tiles(finding.code, file, survey))))
        for file in chosen
    ]


def _list_tiles(code: str, file: FoundFile, survey: Survey) -> list[Image.Image | None]:
    if file.pair is None:
        return [_open_image(Path(survey.root, file.path))]
    pair = survey.pairs[file.pair]
    image = _open_image(pair.image_path)
    if file.other is not None:
        other = survey.pairs[file.other]
        if code == "label-conflict":
            return [_open_mask(p.mask_path, survey.classes) for p in (pair, other)]
        return [image, _open_image(other.image_path)]
    mask = _open_mask(pair.mask_path, survey.classes)
    if code in _OVERLAID and image is not None and mask is not None:
        blend = Image.blend(image, mask.resize(image.size, Image.Resampling.NEAREST), 0.5)
        return [image, blend]
    if code == "interpolated" and mask is not None:
        return [mask, _zoom(pair.mask_path, mask)]
    return [image, mask]


def _open_image(path: File) -> Image.Image | None:
    try:
        if opened := open_array(path, str(path)):
            return render_preview(opened.read()).convert("RGB")
        return decode_image(path, draft=("RGB", 2 * max(_TILE_HW))).image.convert("RGB")
    except DataError:
        return None


def _open_mask(path: File, classes: Classes) -> Image.Image | None:
    """Read a mask in the colours of its classes; other values have VOC's colours."""
    try:
        image = decode_image(path).image
    except DataError:
        return None
    if not holds_indices(image):
        return image.convert("RGB")
    mask = Image.fromarray(np.asarray(image).astype(np.int64).clip(0, 255).astype(np.uint8))
    mask.putpalette(classes.palette)
    return mask.convert("RGB")


def _zoom(path: File, mask: Image.Image) -> Image.Image:
    """Enlarge the part of a mask around the middle one of its interpolated pixels."""
    indices = np.asarray(decode_image(path).image).astype(np.int64)
    between = (indices[:, 1:-1] - indices[:, :-2]) * (indices[:, 2:] - indices[:, 1:-1]) > 0
    rows, columns = np.nonzero(between)
    middle = len(rows) // 2
    y, x = (int(rows[middle]), int(columns[middle])) if len(rows) else (0, 0)
    height, width = (_ZOOM_PX * side // _TILE_HW[0] for side in _TILE_HW)
    left = max(0, min(x - width // 2, mask.width - width))
    top = max(0, min(y - height // 2, mask.height - height))
    piece = mask.crop((left, top, left + width, top + height))
    return piece.resize((_TILE_HW[1], _TILE_HW[0]), Image.Resampling.NEAREST)


def _fit_tile(tile: Image.Image | None) -> Image.Image | None:
    if tile is None:
        return None
    height, width = _TILE_HW
    is_shrunk = tile.height > height or tile.width > width
    method = Image.Resampling.LANCZOS if is_shrunk else Image.Resampling.NEAREST
    return ImageOps.contain(tile, (width, height), method)
