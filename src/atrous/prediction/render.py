"""Mask files and overlays."""

import zlib
from collections.abc import Sequence
from functools import lru_cache
from typing import BinaryIO

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw
from torch import Tensor

from atrous.classes import IGNORE_INDEX, Classes
from atrous.fonts import find_font, load_font, spell
from atrous.images import resize_image
from atrous.images.pixels import resize_mask

Pixels = npt.NDArray[np.uint8]

UNTINTED = (0, 0, 0)
"""Colour of classes that are not tinted, such as the background of VOC."""

OVERLAY_SIDE_PX = 4096
"""Maximum side of a written overlay; larger images are reduced."""


def write_mask(file: BinaryIO, mask: Tensor, classes: Classes) -> None:
    """Write class indices, uint8 (H, W), as a PNG with the class colours as palette."""
    image = Image.fromarray(mask.cpu().numpy())
    image.putpalette(classes.palette)  # mode L becomes P; indices are unchanged
    # Run lengths only: a quarter of the time for a sixth more bytes.
    image.save(file, format="PNG", compress_type=zlib.Z_RLE)


def write_overlay(
    file: BinaryIO,
    image: Tensor,
    mask: Tensor,
    classes: Classes,
    *,
    opacity: float = 0.5,
    format: str = "JPEG",
) -> None:
    """Write the result of `render_overlay` as `JPEG` or `PNG`, with sides of 4096 px at most."""
    height, width = mask.shape
    if (largest_px := max(height, width)) > OVERLAY_SIDE_PX:
        factor = OVERLAY_SIDE_PX / largest_px
        size_hw = (max(1, round(height * factor)), max(1, round(width * factor)))
        image, mask = resize_image(image, size_hw), resize_mask(mask, size_hw)
    overlay = render_overlay(image, mask, classes, opacity=opacity)
    options = {"compress_level": 1} if format == "PNG" else {"quality": 92, "subsampling": 0}
    overlay.save(file, format=format, **options)


def render_overlay(
    image: Tensor,
    mask: Tensor,
    classes: Classes,
    *,
    opacity: float = 0.5,
    legend: Sequence[int] | None = None,
) -> Image.Image:
    """Tint an image with the class colours, outline the regions and draw a legend below.

    The tinted image is at the top left; for very small images the legend below is wider.

    Args:
        image: uint8 (3, H, W).
        mask: uint8 (H, W); ignored pixels (255) are not tinted, a black class is only outlined.
        opacity: Weight of the class colour, 0 to 1.
        legend: Class indices in the legend; by default those in the mask.
    """
    pixels = image.permute(1, 2, 0).cpu().numpy()
    indices = mask.cpu().numpy()
    height, width = indices.shape
    tinted = Image.fromarray(tint(pixels, indices, classes, opacity))
    if legend is None:
        legend = [index for index in np.unique(indices).tolist() if index < len(classes)]
    text_px = max(12, round(0.028 * (height * width) ** 0.5))
    strip = _render_legend(width, tuple(legend), classes, text_px)
    canvas = Image.new("RGB", (max(width, strip.width), height + strip.height), "white")
    canvas.paste(tinted, (0, 0))
    canvas.paste(strip, (0, height))
    return canvas


def tint(pixels: Pixels, indices: Pixels, classes: Classes, opacity: float) -> Pixels:
    """Tint pixels, uint8 (H, W, 3), with their class colours and outline the regions."""
    colors = np.zeros((IGNORE_INDEX + 1, 3), np.float32)
    colors[: len(classes)] = classes.colors
    weights = np.where((colors == UNTINTED).all(axis=1), 0.0, opacity).astype(np.float32)
    # Blending depends on (class, channel, level) only, so a lookup table is much faster.
    levels = np.arange(256, dtype=np.float32)
    table = levels * (1 - weights[:, None, None]) + (colors * weights[:, None])[:, :, None]
    channels = np.arange(3)
    tinted = table.round().astype(np.uint8)[indices[:, :, None], channels, pixels]
    thickness_px = max(1, round(0.0025 * (pixels.shape[0] * pixels.shape[1]) ** 0.5))
    edges = _find_edges(indices, thickness_px)
    lines = (0.35 * colors + 0.65 * 255).astype(np.uint8)
    tinted[edges] = lines[indices[edges]]
    return tinted


def _find_edges(indices: Pixels, thickness_px: int) -> npt.NDArray[np.bool_]:
    """Return the pixels within `thickness_px` below or right of another class."""
    edges = np.zeros(indices.shape, np.bool_)
    for shift in range(1, thickness_px + 1):
        edges[shift:] |= indices[shift:] != indices[:-shift]
        edges[:, shift:] |= indices[:, shift:] != indices[:, :-shift]
    return edges


@lru_cache(maxsize=8)
def _render_legend(
    width: int, present: tuple[int, ...], classes: Classes, text_px: int
) -> Image.Image:
    """Draw colour swatches with class names, in rows that fit the width.

    Names that no font can draw are given as class index and code points.
    """
    names = {index: classes.names[index] for index in present}
    texts = {i: name if find_font(name) else f"{i}: {spell(name)}" for i, name in names.items()}
    fonts = {index: load_font(text, text_px) for index, text in texts.items()}
    swatch_px, gap_px, row_px = text_px, text_px // 2, round(1.6 * text_px)
    sizes = [swatch_px + 3 * gap_px + round(fonts[i].getlength(texts[i])) for i in present]
    places, left, row, right = [], gap_px, 0, width
    for size in sizes:
        if left + size > width and left > gap_px:
            left, row = gap_px, row + 1
        places.append((left, gap_px + row * row_px))
        left += size
        right = max(right, left)
    legend = Image.new("RGB", (right, (row + 1) * row_px + gap_px), "white")
    draw = ImageDraw.Draw(legend)
    for index, (left, top) in zip(present, places, strict=True):
        box = (left, top, left + swatch_px - 1, top + swatch_px - 1)
        color = classes.colors[index]
        draw.rectangle(box, fill=None if color == UNTINTED else color, outline="#555555")
        middle = left + swatch_px + gap_px, top + swatch_px // 2
        draw.text(middle, texts[index], fill="#222222", font=fonts[index], anchor="lm")
    return legend
