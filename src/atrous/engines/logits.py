"""From logits to classes and confidence, without writing all planes at full size."""

import torch
from torch import Tensor

from atrous.errors import WeightsError

_STRIP_ROWS = 8
"""Rows made at once: 21 planes of 8 rows of 513 float32 are 345 kB, which a core's cache holds."""


def compute_mask(logits: Tensor) -> Tensor:
    """Return the likeliest class of each pixel; of equals, the first.

    Shapes:
        logits: float (classes, H, W)
        returns: uint8 (H, W)
    """
    return logits.max(dim=0).indices.to(torch.uint8)  # argmax is three times slower on a CPU


def compute_upsampled_mask(logits: Tensor, size_hw: tuple[int, int]) -> Tensor:
    """Resize logits as `models.layers.upsample` does and return the likeliest class of each pixel.

    Rows are resized, compared and forgotten strip by strip, so that the resized logits never leave
    the cache. Up to rounding the result is `compute_mask` of the resized logits.

    Args:
        logits: As the head gives them. Rows and columns beyond the image are left out.
        size_hw: Height and width of the image.

    Shapes:
        logits: float (classes, h, w)
        returns: uint8 (H, W)
    """
    height, width = size_hw
    logits = logits[:, :height, :width].float()
    if logits.shape[-2:] == (height, width):
        return compute_mask(logits)
    left, right, share = _find_neighbours(logits.shape[2], width)
    planes = logits.permute(1, 0, 2)  # rows first: a strip of them is then one piece of memory
    planes = planes[..., left].lerp(planes[..., right], share)
    above, below, share = _find_neighbours(logits.shape[1], height)
    mask = torch.empty(size_hw, dtype=torch.uint8)
    for top in range(0, height, _STRIP_ROWS):
        rows = slice(top, top + _STRIP_ROWS)
        strip = planes[above[rows]].lerp_(planes[below[rows]], share[rows, None, None])
        mask[rows] = strip.max(dim=1).indices
    return mask


def _find_neighbours(from_px: int, to_px: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return the two places that each of a resized side lies between, and the second's share.

    Pixel centres are matched, as `align_corners=False` does.
    """
    places = (torch.arange(to_px) + 0.5) * (from_px / to_px) - 0.5
    places = places.clamp(0, from_px - 1)
    first = places.long()
    return first, (first + 1).clamp(max=from_px - 1), places - first


def check_finite(logits: Tensor) -> None:
    """Refuse logits, or the largest of each pixel, that are not finite.

    Raises:
        WeightsError: They are not.
    """
    if not bool(logits.isfinite().all()):
        raise WeightsError(
            "The model's logits are not finite, so there is no likeliest class. Its weights "
            "are damaged or its training diverged; use other weights, or --precision 32."
        )


def compute_confidence(logits: Tensor, temperature: float = 1.0) -> Tensor:
    """Return the probability of the likeliest class of each pixel.

    Shapes:
        logits: float (classes, H, W)
        returns: float32 (H, W)
    """
    scaled = logits.float() / temperature
    return (scaled.amax(dim=0) - scaled.logsumexp(dim=0)).exp()
