"""One image of examples for a finding: what a person should look at."""

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from atrous.classes import Classes
from atrous.data.image_file import decode_image
from atrous.data.sample import holds_indices, reduce_to_8_bits
from atrous.doctor.findings import Finding, FoundFile
from atrous.doctor.survey import Survey
from atrous.errors import DataError
from atrous.fonts import load_font

MAX_EXAMPLES = 6

_TILE_HW = 150, 200
_GAP_PX = 8
_TEXT_PX = 13
_BACKGROUND = "#f4f4f4"
_INK = "#333333"
_OVERLAID = {"misaligned", "exif-rotation", "exif-unclear"}
_ZOOMED = {"interpolated"}
_ZOOM_PX = 40


def render_examples(finding: Finding, survey: Survey) -> Image.Image | None:
    """Draw the first files of a finding: each image beside its mask, or beside its likeness.

    Where masks may lie wrong, they are drawn over their images; where values lie between
    classes, a piece of the edge is enlarged. None for a finding without files.

    Returns:
        RGB, two examples per row.
    """
    chosen = _spread(list(finding.files), MAX_EXAMPLES)
    examples = [_render_example(finding.code, file, survey) for file in chosen]
    if not examples:
        return None
    num_columns = min(2, len(examples))
    rows = [examples[start : start + num_columns] for start in range(0, len(examples), num_columns)]
    width, height = examples[0].size
    sheet = Image.new(
        "RGB",
        (
            num_columns * (width + _GAP_PX) + _GAP_PX,
            len(rows) * (height + _GAP_PX) + _GAP_PX,
        ),
        _BACKGROUND,
    )
    for row, line in enumerate(rows):
        for column, example in enumerate(line):
            place = (_GAP_PX + column * (width + _GAP_PX), _GAP_PX + row * (height + _GAP_PX))
            sheet.paste(example, place)
    return sheet


def _spread(files: list[FoundFile], most: int) -> list[FoundFile]:
    """Return a few files from all over the list, so that not all are of one kind."""
    if len(files) <= most:
        return files
    return [files[place * len(files) // most] for place in range(most)]


def _render_example(code: str, file: FoundFile, survey: Survey) -> Image.Image:
    height, width = _TILE_HW
    canvas = Image.new("RGB", (2 * width + _GAP_PX, height + 2 * _TEXT_PX + 10), _BACKGROUND)
    for place, tile in enumerate(_list_tiles(code, file, survey)):
        canvas.paste(_fit_tile(tile), (place * (width + _GAP_PX), 0))
    draw = ImageDraw.Draw(canvas)
    for line, text in enumerate((Path(file.path).name, file.detail)):
        corner = (0, height + 3 + line * (_TEXT_PX + 3))
        shown = _shorten(text, canvas.width)
        draw.text(corner, shown, fill=_INK, font=load_font(shown, _TEXT_PX))
    return canvas


def _list_tiles(code: str, file: FoundFile, survey: Survey) -> list[Image.Image | None]:
    if file.pair is None:
        return [_open_image(survey.root / file.path)]
    pair = survey.pairs[file.pair]
    image = _open_image(pair.image_path)
    if file.other is not None:
        other = survey.pairs[file.other]
        if code == "label-conflict":
            masks = (pair.mask_path, other.mask_path)
            return [_open_mask(path, survey.classes) for path in masks]
        return [image, _open_image(other.image_path)]
    mask = _open_mask(pair.mask_path, survey.classes)
    if code in _OVERLAID and image is not None and mask is not None:
        blend = Image.blend(image, mask.resize(image.size, Image.Resampling.NEAREST), 0.5)
        return [image, blend]
    if code in _ZOOMED and mask is not None:
        return [mask, _zoom(pair.mask_path, mask)]
    return [image, mask]


def _open_image(path: Path) -> Image.Image | None:
    try:
        image = decode_image(path, draft=("RGB", 2 * max(_TILE_HW))).image
        return reduce_to_8_bits(image, path).convert("RGB")
    except DataError:
        return None


def _open_mask(path: Path, classes: Classes) -> Image.Image | None:
    """Read a mask as it looks in the colours of its classes, values that are none in VOC's."""
    try:
        image = decode_image(path).image
    except DataError:
        return None
    if not holds_indices(image):
        return image.convert("RGB")
    indices = np.asarray(image).astype(np.int64).clip(0, 255).astype(np.uint8)
    mask = Image.fromarray(indices)
    mask.putpalette(classes.palette)
    return mask.convert("RGB")


def _zoom(path: Path, mask: Image.Image) -> Image.Image:
    """Enlarge the piece of a mask in which the most values lie between their neighbours."""
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


def _fit_tile(tile: Image.Image | None) -> Image.Image:
    height, width = _TILE_HW
    canvas = Image.new("RGB", (width, height), "#dddddd")
    if tile is None:
        text = ImageDraw.Draw(canvas)
        words, font = "cannot be read", load_font("", _TEXT_PX)
        text.text((width // 2, height // 2), words, fill=_INK, font=font, anchor="mm")
        return canvas
    scale = min(width / tile.width, height / tile.height)
    size = max(1, round(tile.width * scale)), max(1, round(tile.height * scale))
    smooth = Image.Resampling.LANCZOS if scale < 1 else Image.Resampling.NEAREST
    canvas.paste(tile.resize(size, smooth), ((width - size[0]) // 2, (height - size[1]) // 2))
    return canvas


def _shorten(text: str, width_px: int) -> str:
    """Cut a line to a width, with … in its middle, because names differ at their ends."""
    font = load_font(text, _TEXT_PX)
    if font.getlength(text) <= width_px:
        return text
    keep = len(text)
    while keep > 2 and font.getlength(f"{text[: keep // 2]}…{text[-(keep // 2) :]}") > width_px:
        keep -= 1
    return f"{text[: keep // 2]}…{text[-(keep // 2) :]}"
