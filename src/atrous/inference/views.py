"""From one picture to one set of logits: scales, mirror images and sliding windows."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from atrous.data import resize_image
from atrous.errors import ConfigError

SMALLEST_PX = 32
"""Pictures are padded to at least this: the coarsest stride, one feature cell."""

Forward = Callable[[Tensor], Tensor]
"""Maps a uint8 picture (3, H, W) to float32 logits (classes, H, W)."""


@dataclass(frozen=True)
class Views:
    """How often and how closely a model looks at one picture.

    Attributes:
        scales: Sizes at which the picture is seen, as factors of its usual size.
        flip: Whether each view is also seen mirrored left to right.
        window_px: Side of a square sliding window; None takes the picture whole.
        overlap: Least share of a window that its neighbour covers too, 0 to below 1.

    Raises:
        ConfigError: A value cannot be used; the message names it.
    """

    scales: tuple[float, ...] = (1.0,)
    flip: bool = False
    window_px: int | None = None
    overlap: float = 0.5

    def __post_init__(self) -> None:
        if not self.scales or not all(0 < scale < math.inf for scale in self.scales):
            raise ConfigError(f"Scales must be positive numbers, at least one, not {self.scales}.")
        if self.window_px is not None and self.window_px < SMALLEST_PX:
            raise ConfigError(f"A window of {self.window_px} px is below {SMALLEST_PX} px.")
        if not 0 <= self.overlap < 1:
            raise ConfigError(f"Window overlap {self.overlap} must be at least 0 and below 1.")


def compute_view_logits(
    forward: Forward, image: Tensor, views: Views, size_hw: tuple[int, int] | None, fill: Tensor
) -> Tensor:
    """Look at a picture in every view and return one set of logits.

    Args:
        forward: The network, normalisation included.
        image: uint8 (3, H, W).
        views: The views to take. A single one gives the network's own logits; of several, the
            probabilities are averaged and their logarithm is returned.
        size_hw: Size that scale 1 stands for; None is the picture's own.
        fill: uint8 (3,) colour of padding.

    Returns:
        float32 (classes, H, W), at the picture's own size.
    """
    own_hw = (image.shape[-2], image.shape[-1])
    logits = (
        _upsample(one, own_hw) for one in _iterate_views(forward, image, views, size_hw, fill)
    )
    num_views = len(views.scales) * (1 + views.flip)
    if num_views == 1:
        return next(logits)
    probs = next(logits).softmax(dim=0)
    for one in logits:
        probs += one.softmax(dim=0)
    return (probs / num_views).clamp_min(torch.finfo(probs.dtype).tiny).log()


def compute_window_starts(size_px: int, window_px: int, overlap: float) -> list[int]:
    """Return where windows begin along one side: evenly spaced, from edge to edge."""
    room_px = size_px - window_px
    if room_px <= 0:
        return [0]
    stride_px = max(1, int(window_px * (1 - overlap)))
    num_steps = math.ceil(room_px / stride_px)
    return [round(step * room_px / num_steps) for step in range(num_steps + 1)]


def _iterate_views(
    forward: Forward, image: Tensor, views: Views, size_hw: tuple[int, int] | None, fill: Tensor
) -> Iterator[Tensor]:
    height, width = size_hw or image.shape[-2:]
    for scale in views.scales:
        view = resize_image(image, (max(1, round(height * scale)), max(1, round(width * scale))))
        yield _compute_windows(forward, view, views, fill)
        if views.flip:
            yield _compute_windows(forward, view.flip(-1), views, fill).flip(-1)


def _compute_windows(forward: Forward, image: Tensor, views: Views, fill: Tensor) -> Tensor:
    """Return logits at the size of `image`; where windows overlap, their mean."""
    height, width = image.shape[-2:]
    image = _pad(image, views.window_px or SMALLEST_PX, fill)
    if views.window_px is None:
        return forward(image)[:, :height, :width]
    tops, lefts = (
        compute_window_starts(size_px, views.window_px, views.overlap)
        for size_px in image.shape[-2:]
    )
    if len(tops) == len(lefts) == 1:
        return forward(image)[:, :height, :width]
    total: Tensor | None = None
    num_seen = torch.zeros(image.shape[-2:], device=image.device)
    for top in tops:
        for left in lefts:
            place = slice(top, top + views.window_px), slice(left, left + views.window_px)
            logits = forward(image[:, *place])
            if total is None:
                total = logits.new_zeros(len(logits), *image.shape[-2:])
            total[:, *place] += logits
            num_seen[place] += 1
    assert total is not None
    return (total / num_seen)[:, :height, :width]


def _pad(image: Tensor, least_px: int, fill: Tensor) -> Tensor:
    height, width = image.shape[-2:]
    if min(height, width) >= least_px:
        return image
    padded = fill[:, None, None].repeat(1, max(height, least_px), max(width, least_px))
    padded[:, :height, :width] = image
    return padded


def _upsample(logits: Tensor, size_hw: tuple[int, int]) -> Tensor:
    if logits.shape[-2:] == size_hw:
        return logits
    return F.interpolate(logits[None], size_hw, mode="bilinear", align_corners=False)[0]
