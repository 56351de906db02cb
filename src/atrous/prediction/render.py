"""Masks as files that other programs read, and overlays that people look at."""

import zlib
from collections.abc import Sequence
from functools import lru_cache
from typing import BinaryIO

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw
from torch import Tensor

from atrous.classes import IGNORE_INDEX, Classes
from atrous.data import resize_image
from atrous.data.pixels import resize_mask
from atrous.fonts import find_font, load_font, spell

Pixels = npt.NDArray[np.uint8]

UNTINTED = (0, 0, 0)
"""A black class, as VOC's background is, leaves the image as it is instead of hiding it."""


OVERLAY_SIDE_PX = 4096
"""Overlays are made smaller where a side is longer: they are for looking at."""


def write_mask(file: BinaryIO, mask: Tensor, classes: Classes) -> None:
    """Write class indices as a palette PNG: indices stay indices, and viewers show the colours.

    Args:
        file: Where to write.
        mask: uint8 (H, W).
        classes: Give the palette.
    """
    image = Image.fromarray(mask.cpu().numpy())
    image.putpalette(classes.palette)  # turns L into P, the numbers stay
    # Masks are runs of the same: looking for nothing else takes a quarter of the time, for a sixth
    # more bytes.
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
    """Write what `render_overlay` returns, no side of it much over 4096 pixels.

    Args:
        file: Where to write.
        image: uint8 (3, H, W).
        mask: uint8 (H, W).
        classes: Names and colours.
        opacity: Share of the class colour inside a region, 0 to 1.
        format: `JPEG` or `PNG`.
    """
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
    """Tint an image with the colours of its classes, outline the regions and name them below.

    Args:
        image: uint8 (3, H, W).
        mask: uint8 (H, W); void (255) is left as it is.
        classes: Names and colours. A class whose colour is black is outlined and not tinted.
        opacity: Share of the class colour inside a region, 0 to 1.
        legend: Classes to name; None names those in the mask.

    Returns:
        RGB: the image at its own size at the top left, a strip with the names of the classes
        below. Very small images get a strip that is wider than they are.
    """
    pixels = image.permute(1, 2, 0).cpu().numpy()
    indices = mask.cpu().numpy()
    height, width = indices.shape
    tinted = Image.fromarray(_tint(pixels, indices, classes, opacity))
    if legend is None:
        legend = [index for index in np.unique(indices).tolist() if index < len(classes)]
    text_px = max(12, round(0.028 * (height * width) ** 0.5))
    strip = _render_legend(width, tuple(legend), classes, text_px)
    canvas = Image.new("RGB", (max(width, strip.width), height + strip.height), "white")
    canvas.paste(tinted, (0, 0))
    canvas.paste(strip, (0, height))
    return canvas


def _tint(pixels: Pixels, indices: Pixels, classes: Classes, opacity: float) -> Pixels:
    colors = np.zeros((IGNORE_INDEX + 1, 3), np.float32)
    colors[: len(classes)] = classes.colors
    weights = np.where((colors == UNTINTED).all(axis=1), 0.0, opacity).astype(np.float32)
    # Blending is a function of (class, channel, brightness): a table of that is far faster.
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
    """Return the pixels within `thickness_px` above or left of another class."""
    edges = np.zeros(indices.shape, np.bool_)
    for shift in range(1, thickness_px + 1):
        edges[shift:] |= indices[shift:] != indices[:-shift]
        edges[:, shift:] |= indices[:, shift:] != indices[:, :-shift]
    return edges


@lru_cache(maxsize=8)
def _render_legend(
    width: int, present: tuple[int, ...], classes: Classes, text_px: int
) -> Image.Image:
    """Draw swatches with names, in as many rows as the width asks for.

    A name that no font can draw is spelled in code points behind the number of its class.
    """
    names = {index: classes.names[index] for index in present}
    texts = {i: name if find_font(name) else f"{i}: {spell(name)}" for i, name in names.items()}
    fonts = {index: load_font(text, text_px) for index, text in texts.items()}
    swatch_px, gap_px, row_px = text_px, text_px // 2, round(1.6 * text_px)
    sizes = [
        swatch_px + gap_px + round(fonts[index].getlength(texts[index])) + 2 * gap_px
        for index in present
    ]
    places, left, row = [], gap_px, 0
    for size in sizes:
        if left + size > width and left > gap_px:
            left, row = gap_px, row + 1
        places.append((left, gap_px + row * row_px))
        left += size
    least_width = max(
        [width, *(place[0] + size for place, size in zip(places, sizes, strict=True))]
    )
    legend = Image.new("RGB", (least_width, (row + 1) * row_px + gap_px), "white")
    draw = ImageDraw.Draw(legend)
    for index, (left, top) in zip(present, places, strict=True):
        box = (left, top, left + swatch_px - 1, top + swatch_px - 1)
        color = classes.colors[index]
        draw.rectangle(box, fill=None if color == UNTINTED else color, outline="#555555")
        middle = left + swatch_px + gap_px, top + swatch_px // 2
        draw.text(middle, texts[index], fill="#222222", font=fonts[index], anchor="lm")
    return legend
