"""Taps of atrous convolutions that never fall on the feature map of a training crop."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from math import ceil

import torch
from torch import Tensor, nn

from atrous.models.segmenter import Segmenter
from atrous.models.zoo import find_variant


@dataclass(frozen=True)
class UntrainedTaps:
    """An atrous convolution of the head, and its taps that get no gradient.

    Attributes:
        name: State-dict key of the weight.
        rate: Atrous rate, in cells.
        num_untrained: Taps that no position of the training map reaches.
        num_taps: All taps.
        are_zero: Whether the weights of the untrained taps are zero.
    """

    name: str
    rate: int
    num_untrained: int
    num_taps: int
    are_zero: bool


def compute_map_hw(model: Segmenter, size_hw: tuple[int, int]) -> tuple[int, int]:
    """Return the size of the last feature map for an image size."""
    stride = model.backbone.strides[-1]
    return ceil(size_hw[0] / stride), ceil(size_hw[1] / stride)


def list_untrained_taps(model: Segmenter, size_hw: tuple[int, int]) -> list[UntrainedTaps]:
    """List the atrous convolutions of the head that have taps which training never reaches.

    A tap at a distance of at least the map's size from the centre reads zero padding at every
    position: it gets no gradient, and keeps its initial weight. On a larger map, as in evaluation
    at full size, it reads features and adds the noise of that weight.

    Args:
        model: The model.
        size_hw: Size of the training images, in pixels.
    """
    return [
        UntrainedTaps(
            name=name,
            rate=max(conv.dilation),
            num_untrained=int(untrained.sum()),
            num_taps=untrained.numel(),
            are_zero=not bool(conv.weight.detach()[..., untrained].any()),
        )
        for name, conv, untrained in _iterate_untrained(model, size_hw)
    ]


@torch.no_grad()
def zero_untrained_taps(
    model: Segmenter, size_hw: tuple[int, int], *, keep: Collection[str] = ()
) -> list[UntrainedTaps]:
    """Set the taps that training never reaches to zero.

    Training does not change by it, bit for bit: these taps multiply zero padding alone. Evaluation
    on larger maps no longer depends on weights that nobody trained.

    Args:
        model: The model.
        size_hw: Size of the training images, in pixels.
        keep: State-dict keys that are not changed, such as those of loaded weights.

    Returns:
        The convolutions that were changed.
    """
    for name, conv, untrained in _iterate_untrained(model, size_hw):
        if name not in keep:
            conv.weight[..., untrained.to(conv.weight.device)] = 0
    return [taps for taps in list_untrained_taps(model, size_hw) if taps.name not in keep]


def fit_rates(name: str, output_stride: int, size_px: int) -> tuple[int, ...]:
    """Return the rates that have as many taps inside the map as the defaults have at 513 pixels.

    The default rates are for images of 513 pixels at output stride 16 (arXiv:1706.05587, section
    4); these cover the same share of another image.

    Args:
        name: Name of the variant.
        output_stride: Image pixels per cell of the map.
        size_px: Side of the training images.
    """
    factor = 16 / output_stride * size_px / 513
    return tuple(max(1, round(rate * factor)) for rate in find_variant(name).rates)


def _iterate_untrained(
    model: Segmenter, size_hw: tuple[int, int]
) -> Iterator[tuple[str, nn.Conv2d, Tensor]]:
    """Yield weight name, convolution and a bool mask (kernel height, width) of untrained taps."""
    map_hw = compute_map_hw(model, size_hw)
    for name, conv in model.head.named_modules(prefix="head"):
        if isinstance(conv, nn.Conv2d) and max(conv.dilation) > 1:
            rows, columns = (
                (torch.arange(size) - size // 2).abs() * rate >= cells
                for size, rate, cells in zip(conv.kernel_size, conv.dilation, map_hw, strict=True)
            )
            untrained = rows[:, None] | columns[None]
            if untrained.any():
                yield f"{name}.weight", conv, untrained
