"""From one image to one set of logits: scales, mirror images and sliding windows."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from atrous.data import resize_image
from atrous.engines.windows import Block, Forward, assemble_blocks, blend_windows
from atrous.errors import ConfigError

MIN_PX = 32
"""Images are padded to at least this: the coarsest stride, one feature cell."""

MAX_WHOLE_PX = 2048 * 2048
"""An image of more pixels is taken in windows, unless it is asked for whole."""

DEFAULT_WINDOW_PX = 1024
"""Side of those windows."""

_STRIP_VALUES = 2**24
"""Logits that are made at once where a small answer is enlarged to a large image: 64 MB."""


@dataclass(frozen=True)
class Views:
    """How often and how closely a model looks at one image.

    Attributes:
        scales: Sizes at which the image is seen, as factors of its usual size.
        flip: Whether each view is also seen mirrored left to right.
        window_px: Side of a square sliding window. None takes an image whole up to 2048×2048
            pixels and in windows of 1024 above that; 0 takes every image whole.
        overlap: Least share of a window that its neighbour covers too, 0 to below 1.
        samples: Predictions that are drawn with dropout on and averaged; 1 is one without dropout.

    Raises:
        ConfigError: A value cannot be used; the message names it.
    """

    scales: tuple[float, ...] = (1.0,)
    flip: bool = False
    window_px: int | None = None
    overlap: float = 0.25
    samples: int = 1

    def __post_init__(self) -> None:
        if not self.scales or not all(0 < scale < math.inf for scale in self.scales):
            raise ConfigError(f"Scales must be positive numbers, at least one, not {self.scales}.")
        if self.window_px and self.window_px < MIN_PX:
            raise ConfigError(
                f"A window of {self.window_px} px is below {MIN_PX} px; 0 stands for none."
            )
        if not 0 <= self.overlap < 1:
            raise ConfigError(f"Window overlap {self.overlap} must be at least 0 and below 1.")
        if self.samples < 1:
            raise ConfigError(f"At least 1 sample is needed, not {self.samples}.")

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "Views":
        """Return views from the values that a JSON file holds of them."""
        return cls(**{**values, "scales": tuple(values.get("scales", cls.scales))})

    def describe(self) -> str:
        """Return the views in words, such as `scale 1, not mirrored, no windows`."""
        scales = ", ".join(f"{scale:g}" for scale in self.scales)
        mirrored = "mirrored too" if self.flip else "not mirrored"
        windows = f"windows of {self.window_px} px, overlap {self.overlap:g}"
        sampled = f", mean of {self.samples} samples" if self.samples > 1 else ""
        return f"scale {scales}, {mirrored}, {windows if self.window_px else 'no windows'}{sampled}"

    def compute_window_hw(self, height: int, width: int) -> tuple[int, int]:
        """Return the window for an image, which is the image itself where it is taken whole."""
        side_px = self.window_px
        if side_px is None and height * width > MAX_WHOLE_PX:
            side_px = DEFAULT_WINDOW_PX
        return (min(height, side_px), min(width, side_px)) if side_px else (height, width)


def iterate_view_blocks(
    forward: Forward, image: Tensor, views: Views, size_hw: tuple[int, int] | None, fill: Tensor
) -> Iterator[Block]:
    """Look at an image in every view and give its logits, part after part.

    An image that is seen at its own size is cut into windows, and each window is seen in every
    view. An image that is resized for the network is seen whole in every view, or through
    windows over the view, and the answers are enlarged strip by strip.

    Args:
        forward: The network, normalisation included.
        image: uint8 (3, H, W), anywhere; what the network is to see is moved to where `fill` is.
        views: The views to take. A single one gives the network's own logits; of several, the
            probabilities are averaged and their logarithm is given.
        size_hw: Size that scale 1 stands for; None is the image's own.
        fill: uint8 (3,) colour of padding.

    Returns:
        Blocks that cover the image at its own size, each pixel once.
    """
    forward = partial(_forward_padded, forward, fill)
    if size_hw is None:
        look = partial(_look, forward, views, fill.device)
        window_hw = views.compute_window_hw(image.shape[-2], image.shape[-1])
        yield from blend_windows(look, image, window_hw, views.overlap)
        return
    own_hw = (image.shape[-2], image.shape[-1])
    slide = partial(_slide, forward, views)
    maps = _compute_maps(slide, image.to(fill.device), views, size_hw)
    num_rows = max(1, _STRIP_VALUES // (len(maps[0]) * own_hw[1]))
    for top in range(0, own_hw[0], num_rows):
        rows = slice(top, min(top + num_rows, own_hw[0]))
        yield Block(rows, slice(0, own_hw[1]), _merge_maps(maps, own_hw, rows))


def _look(forward: Forward, views: Views, device: torch.device, image: Tensor) -> Tensor:
    own_hw = (image.shape[-2], image.shape[-1])
    maps = _compute_maps(forward, image.to(device), views, own_hw)
    return _merge_maps(maps, own_hw, slice(0, own_hw[0]))


def _slide(forward: Forward, views: Views, image: Tensor) -> Tensor:
    size_hw = (image.shape[-2], image.shape[-1])
    window_hw = views.compute_window_hw(*size_hw)
    return assemble_blocks(blend_windows(forward, image, window_hw, views.overlap), size_hw)


def _compute_maps(
    forward: Forward, image: Tensor, views: Views, size_hw: tuple[int, int]
) -> list[Tensor]:
    """Return the logits of each view, each at the size of its view."""
    height, width = size_hw
    maps = []
    for scale in views.scales:
        view_hw = (max(1, round(height * scale)), max(1, round(width * scale)))
        view = resize_image(image, view_hw) if view_hw != image.shape[-2:] else image
        maps.append(forward(view))
        if views.flip:
            maps.append(forward(view.flip(-1)).flip(-1))
    return maps


def _merge_maps(maps: list[Tensor], own_hw: tuple[int, int], rows: slice) -> Tensor:
    if len(maps) == 1:
        return _resize_rows(maps[0], own_hw, rows)
    probs = torch.stack([_resize_rows(one, own_hw, rows).softmax(dim=0) for one in maps]).mean(0)
    return probs.clamp_min(torch.finfo(probs.dtype).tiny).log()


def _resize_rows(logits: Tensor, own_hw: tuple[int, int], rows: slice) -> Tensor:
    """Return some rows of the logits as they are when resized to `own_hw`."""
    (height, width), own_height = logits.shape[-2:], own_hw[0]
    if (height, width) == own_hw:
        return logits[:, rows]
    num_rows = rows.stop - rows.start
    if num_rows < own_height:
        places = (torch.arange(rows.start, rows.stop, device=logits.device) + 0.5).double()
        places = (places * height / own_height - 0.5).clamp(0, height - 1)
        above = places.long()
        share = (places - above)[:, None].to(logits.dtype)
        logits = logits[:, above].lerp(logits[:, (above + 1).clamp(max=height - 1)], share)
    size_hw = (num_rows, own_hw[1])
    return F.interpolate(logits[None], size_hw, mode="bilinear", align_corners=False)[0]


def _forward_padded(forward: Forward, fill: Tensor, image: Tensor) -> Tensor:
    height, width = image.shape[-2:]
    if min(height, width) >= MIN_PX:
        return forward(image)
    padded = fill[:, None, None].repeat(1, max(height, MIN_PX), max(width, MIN_PX))
    padded[:, :height, :width] = image
    return forward(padded)[:, :height, :width]
