"""Masks and confidence from logits, without writing upsampled logits to memory."""

import torch
from torch import Tensor

from atrous.errors import WeightsError

_STRIP_ROWS = 8
"""Rows upsampled at once: 21 × 8 × 513 float32 are 345 kB, which fits a core's cache."""


def compute_mask(logits: Tensor) -> Tensor:
    """Return the most likely class of each pixel; of equal logits, the first.

    Shapes:
        logits: float (classes, H, W)
        returns: uint8 (H, W)
    """
    return logits.max(dim=0).indices.to(torch.uint8)  # argmax is three times slower on a CPU


def compute_upsampled_mask(logits: Tensor, size_hw: tuple[int, int]) -> Tensor:
    """Upsample logits as `models.layers.upsample` does and return the most likely classes.

    Rows are upsampled and compared strip by strip, within the cache. Up to rounding the result is
    `compute_mask` of the upsampled logits.

    Args:
        logits: Output of the head. Rows and columns beyond the image are cropped.

    Shapes:
        logits: float (classes, h, w)
        returns: uint8 (H, W)
    """
    height, width = size_hw
    logits = logits[:, :height, :width].float()
    if logits.shape[-2:] == (height, width):
        return compute_mask(logits)
    left, right, share = _find_neighbours(logits.shape[2], width)
    planes = logits.permute(1, 0, 2)  # rows first: each strip is contiguous
    planes = planes[..., left].lerp(planes[..., right], share)
    above, below, share = _find_neighbours(logits.shape[1], height)
    mask = torch.empty(size_hw, dtype=torch.uint8)
    for top in range(0, height, _STRIP_ROWS):
        rows = slice(top, top + _STRIP_ROWS)
        strip = planes[above[rows]].lerp_(planes[below[rows]], share[rows, None, None])
        mask[rows] = strip.max(dim=1).indices
    return mask


def _find_neighbours(from_px: int, to_px: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return the two source positions of each target position, and the weight of the second."""
    places = (torch.arange(to_px) + 0.5) * (from_px / to_px) - 0.5
    places = places.clamp(0, from_px - 1)
    first = places.long()
    return first, (first + 1).clamp(max=from_px - 1), places - first


def check_finite(logits: Tensor) -> None:
    """Raise a WeightsError if logits, or the largest logit of each pixel, are not finite."""
    if not bool(logits.isfinite().all()):
        raise WeightsError(
            "The model's logits are not finite, so no class can be predicted. Its weights "
            "are damaged or its training diverged; use other weights, or --precision 32."
        )


def compute_confidence(logits: Tensor, temperature: float = 1.0) -> Tensor:
    """Return the probability of the most likely class of each pixel.

    Shapes:
        logits: float (classes, H, W)
        returns: float32 (H, W)
    """
    scaled = logits.float() / temperature
    return (scaled.amax(dim=0) - scaled.logsumexp(dim=0)).exp()
