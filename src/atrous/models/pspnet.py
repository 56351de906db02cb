"""PSPNet."""

import torch
from torch import Tensor, nn

from atrous.models.interfaces import Backbone, SequentialHead
from atrous.models.layers import conv_norm_relu, match_memory_format, upsample

BINS = (1, 2, 3, 6)
"""Bins per side of the pooling grids, as in the paper."""


class PyramidPooling(nn.Module):
    """Means over coarse grids, projected to a quarter of the channels, upsampled and concatenated.

    Shapes:
        features: float (batch, in_channels, H, W)
        returns: float (batch, 2 * in_channels, H, W)

    Source: Zhao et al. 2016, arXiv:1612.01105, section 3.2.
    """

    def __init__(self, in_channels: int, norm: str) -> None:
        super().__init__()
        self.views = nn.ModuleList(
            conv_norm_relu(in_channels, in_channels // len(BINS), 1, norm=norm) for _ in BINS
        )

    def forward(self, features: Tensor) -> Tensor:
        """Compute all levels and concatenate them with the features."""
        size_hw = features.shape[-2:]
        views = [
            upsample(view(average_bins(features, num_bins)), size_hw)
            for num_bins, view in zip(BINS, self.views, strict=True)
        ]
        return torch.cat([features, *views], dim=1)


class PSPNetHead(SequentialHead):
    """Pyramid pooling on the last feature map, a 3x3 convolution and the classifier.

    The backbone of the paper is a ResNet with output stride 8, trained with an auxiliary head; both
    are options here. Channels and dropout are those of the authors' code.

    Source: Zhao et al. 2016, arXiv:1612.01105.
    """

    classifier_paths = ("5",)

    def __init__(self, backbone: Backbone, num_classes: int, *, norm: str) -> None:
        in_channels = backbone.channels[-1]
        super().__init__(
            PyramidPooling(in_channels, norm),
            *conv_norm_relu(2 * in_channels, in_channels // 4, 3, norm=norm),
            nn.Dropout2d(0.1),
            nn.Conv2d(in_channels // 4, num_classes, 1),
        )
        self.input_stages = (len(backbone.channels) - 1,)


def average_bins(features: Tensor, num_bins: int) -> Tensor:
    """Average over a grid of bins, which overlap if the size is not a multiple of their number.

    This is adaptive average pooling as two matrix products, whose gradient is deterministic on a
    GPU, and which can be exported for any size.

    Shapes:
        features: float (batch, channels, H, W)
        returns: float (batch, channels, num_bins, num_bins)
    """
    rows = _build_averaging(features, -2, num_bins)
    columns = _build_averaging(features, -1, num_bins)
    return match_memory_format(rows @ (features @ columns.mT), features)


def _build_averaging(features: Tensor, dim: int, num_bins: int) -> Tensor:
    size = features.shape[dim]
    place = torch.arange(size, device=features.device)
    bins = torch.arange(num_bins, device=features.device)[:, None]
    inside = (place >= bins * size // num_bins) & (place * num_bins < (bins + 1) * size)
    return (inside / inside.sum(1, keepdim=True)).to(features.dtype)
