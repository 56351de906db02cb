"""Atrous convolutions without the taps that only ever read padding."""

import copy
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

LEAST_SAVING = 0.2
"""Share of the multiplications that must fall away to make up for cutting and joining."""

Network = TypeVar("Network", bound=nn.Module)


class Band(NamedTuple):
    """Rows (or columns) of the result that the same taps reach: `start` to `stop`, exclusive.

    Taps are numbered 0, 1, 2 from the top (or left); those from `first_tap` to `last_tap`,
    inclusive, read inside the map everywhere in the band, the others nowhere.
    """

    start: int
    stop: int
    first_tap: int
    last_tap: int


class CroppedConv2d(nn.Conv2d):
    """A 3x3 atrous convolution with zero padding that leaves out what is multiplied by padding.

    At rate 36 on a map of 65 cells, each outer row of taps lies outside the map for 36 of 65
    rows: of the nine taps 40 % of the multiplications are left. The result is cut into bands that
    the same taps reach; each is a convolution of its own without padding, on a piece of the map.
    The sums are the same but for zeros, so the result is, up to rounding.

    Shapes:
        features: float (batch, in_channels, H, W)
        returns: float (batch, out_channels, H, W)
    """

    def forward(self, features: Tensor) -> Tensor:
        """Convolve, in bands where that saves enough."""
        height, width = features.shape[-2:]
        rates_hw = (self.dilation[0], self.dilation[1])
        if compute_saving((height, width), rates_hw) < LEAST_SAVING:
            return super().forward(features)
        rows = [
            torch.cat(
                [
                    self._compute_piece(features, vertical, horizontal)
                    for horizontal in split_side(width, rates_hw[1])
                ],
                dim=3,
            )
            for vertical in split_side(height, rates_hw[0])
        ]
        return torch.cat(rows, dim=2)

    def _compute_piece(self, features: Tensor, vertical: Band, horizontal: Band) -> Tensor:
        pieces, taps = [], []
        for band, rate in zip((vertical, horizontal), self.dilation, strict=True):
            first, last = (band.first_tap - 1) * rate, (band.last_tap - 1) * rate
            pieces.append(slice(band.start + first, band.stop + last))
            taps.append(slice(band.first_tap, band.last_tap + 1))
        piece = features[:, :, pieces[0], pieces[1]]
        weight = self.weight[:, :, taps[0], taps[1]]
        return F.conv2d(piece, weight, self.bias, dilation=self.dilation)


def crop_taps(model: Network) -> Network:
    """Return the same model with cropped taps in its dense 3x3 atrous convolutions.

    It shares weights and buffers with the old one. For use, not for training: the pieces cost
    more in the backward pass.
    """
    shared: dict[int, Any] = {id(tensor): tensor for tensor in model.parameters()}
    shared |= {id(tensor): tensor for tensor in model.buffers()}
    cropped = copy.deepcopy(model, shared)
    for module in cropped.modules():
        if type(module) is nn.Conv2d and _can_be_cropped(module):
            module.__class__ = CroppedConv2d
    return cropped


def split_side(size: int, rate: int) -> list[Band]:
    """Return the bands of one side of a map, from its start to its end."""
    if rate >= size:
        return [Band(0, size, 1, 1)]
    middle = (rate, size - rate, 0, 2) if 2 * rate <= size else (size - rate, rate, 1, 1)
    bands = [Band(0, middle[0], 1, 2), Band(*middle), Band(middle[1], size, 0, 1)]
    return [band for band in bands if band.start < band.stop]


def compute_saving(size_hw: tuple[int, int], rates_hw: tuple[int, int]) -> float:
    """Return which share of the multiplications of a 3x3 convolution have padding as a factor."""
    kept = 1.0
    for size, rate in zip(size_hw, rates_hw, strict=True):
        kept *= (size + 2 * max(size - rate, 0)) / (3 * size)
    return 1 - kept


def _can_be_cropped(conv: nn.Conv2d) -> bool:
    return (
        conv.kernel_size == (3, 3)
        and conv.stride == (1, 1)
        and conv.groups == 1
        and conv.dilation != (1, 1)
        and conv.padding == conv.dilation
        and conv.padding_mode == "zeros"
    )
