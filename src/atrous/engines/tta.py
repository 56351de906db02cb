"""Test-time augmentation: from one image to one set of logits, by scales, flip and windows."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from atrous.engines.windows import Block, Forward, assemble_blocks, blend_windows
from atrous.errors import ConfigError
from atrous.images import resize_image

MIN_PX = 32
"""Images are padded to at least this: the coarsest stride, one feature cell."""

MAX_WHOLE_PX = 2048 * 2048
"""Larger images are segmented in sliding windows by default."""

DEFAULT_WINDOW_PX = 1024
"""Side of the default sliding window."""

_STRIP_VALUES = 2**24
"""Logits that are resized at once to the size of a large image: 64 MB."""


@dataclass(frozen=True)
class TTA:
    """Test-time augmentation and sliding windows.

    Attributes:
        scales: Factors of the image size; the probabilities of all scales are averaged.
        flip: Whether to average with the horizontally flipped image at each scale.
        window_px: Side of a square sliding window. None uses no windows up to 2048×2048 pixels and
            windows of 1024 above that; 0 never uses windows.
        overlap: Minimum overlap of neighbouring windows as a share of their side, in [0, 1).
        samples: Number of predictions with dropout to average; 1 is one prediction without dropout.

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
    def from_json(cls, values: dict[str, Any]) -> "TTA":
        """Build the options from their values in a JSON file."""
        return cls(**{**values, "scales": tuple(values.get("scales", cls.scales))})

    def describe(self) -> str:
        """Return the options in words, such as `scale 1, no flip, no windows`."""
        scales = ", ".join(f"{scale:g}" for scale in self.scales)
        flip = "flip" if self.flip else "no flip"
        windows = f"windows of {self.window_px} px, overlap {self.overlap:g}"
        sampled = f", mean of {self.samples} samples" if self.samples > 1 else ""
        return f"scale {scales}, {flip}, {windows if self.window_px else 'no windows'}{sampled}"

    def compute_window_hw(self, height: int, width: int) -> tuple[int, int]:
        """Return the size of the windows for an image: that of the image if there are none."""
        side_px = self.window_px
        if side_px is None and height * width > MAX_WHOLE_PX:
            side_px = DEFAULT_WINDOW_PX
        return (min(height, side_px), min(width, side_px)) if side_px else (height, width)


def iterate_tta_blocks(
    forward: Forward, image: Tensor, tta: TTA, size_hw: tuple[int, int] | None, fill: Tensor
) -> Iterator[Block]:
    """Yield the logits of an image under test-time augmentation, block by block.

    At its own size, an image is cut into windows, and the augmentation is applied in each of them.
    An image that is resized for the network is augmented as a whole, with windows over the resized
    image, and its logits are resized to the image strip by strip.

    Args:
        forward: The network, including normalization.
        image: (bands, H, W) on any device; inputs of the network are moved to that of `fill`.
        tta: A single pass yields the logits of the network; several yield the logarithm of their
            mean probabilities.
        size_hw: Image size at scale 1; None for the image's own size.
        fill: (bands,), colour of padding.

    Returns:
        Blocks that cover the image at its own size, each pixel once.
    """
    forward = partial(_forward_padded, forward, fill)
    own_hw = (image.shape[-2], image.shape[-1])
    if size_hw is None:
        augment = partial(_augment, forward, tta, fill.device)
        yield from blend_windows(augment, image, tta.compute_window_hw(*own_hw), tta.overlap)
        return
    slide = partial(_slide, forward, tta)
    maps = _compute_maps(slide, image.to(fill.device), tta, size_hw)
    num_rows = max(1, _STRIP_VALUES // (len(maps[0]) * own_hw[1]))
    for top in range(0, own_hw[0], num_rows):
        rows = slice(top, min(top + num_rows, own_hw[0]))
        yield Block(rows, slice(0, own_hw[1]), _merge_maps(maps, own_hw, rows))


def _augment(forward: Forward, tta: TTA, device: torch.device, image: Tensor) -> Tensor:
    own_hw = (image.shape[-2], image.shape[-1])
    maps = _compute_maps(forward, image.to(device), tta, own_hw)
    return _merge_maps(maps, own_hw, slice(0, own_hw[0]))


def _slide(forward: Forward, tta: TTA, image: Tensor) -> Tensor:
    size_hw = (image.shape[-2], image.shape[-1])
    window_hw = tta.compute_window_hw(*size_hw)
    return assemble_blocks(blend_windows(forward, image, window_hw, tta.overlap), size_hw)


def _compute_maps(
    forward: Forward, image: Tensor, tta: TTA, size_hw: tuple[int, int]
) -> list[Tensor]:
    """Return the logits of each pass, each at the size of its input."""
    height, width = size_hw
    maps = []
    for scale in tta.scales:
        scaled_hw = (max(1, round(height * scale)), max(1, round(width * scale)))
        scaled = resize_image(image, scaled_hw) if scaled_hw != image.shape[-2:] else image
        maps.append(forward(scaled))
        if tta.flip:
            maps.append(forward(scaled.flip(-1)).flip(-1))
    return maps


def _merge_maps(maps: list[Tensor], own_hw: tuple[int, int], rows: slice) -> Tensor:
    if len(maps) == 1:
        return resize_rows(maps[0], own_hw, rows)
    probs = torch.stack([resize_rows(one, own_hw, rows).softmax(dim=0) for one in maps]).mean(0)
    return probs.clamp_min(torch.finfo(probs.dtype).tiny).log()


def resize_rows(logits: Tensor, own_hw: tuple[int, int], rows: slice) -> Tensor:
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
    return forward(pad_image(image, (MIN_PX, MIN_PX), fill))[:, :height, :width]


def pad_image(image: Tensor, size_hw: tuple[int, int], fill: Tensor) -> Tensor:
    """Pad an image (bands, H, W) to at least a size with the colour `fill` (bands,)."""
    height, width = image.shape[-2:]
    rows, columns = max(height, size_hw[0]), max(width, size_hw[1])
    if (height, width) == (rows, columns):
        return image
    padded = fill[:, None, None].repeat(1, rows, columns)
    padded[:, :height, :width] = image
    return padded
