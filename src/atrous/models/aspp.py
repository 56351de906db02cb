"""Atrous spatial pyramid pooling."""

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn

from atrous.models.layers import conv_norm_relu, match_memory_format


class ImagePooling(nn.Sequential):
    """The mean over the whole image, projected and broadcast to every position.

    In a training batch of one image there is one value per channel; batch norm then uses its
    running statistics and does not update them (see `layers.BatchNorm2d`).

    Shapes:
        features: float (batch, in_channels, H, W)
        returns: float (batch, out_channels, H, W), the same value at every position
    """

    def __init__(self, in_channels: int, out_channels: int, norm: str) -> None:
        super().__init__(
            nn.AdaptiveAvgPool2d(1), *conv_norm_relu(in_channels, out_channels, 1, norm=norm)
        )

    def forward(self, features: Tensor) -> Tensor:
        """Pool, project and broadcast."""
        spread = super().forward(features).expand(-1, -1, *features.shape[-2:])
        return match_memory_format(spread, features)


class ASPP(nn.Module):
    """Parallel branches (1x1, 3x3 atrous, image pooling), concatenated and projected.

    Args:
        out_channels: Channels of each branch and of the output.
        atrous_rates: Rates of the 3x3 convolutions, in feature cells, not image pixels.
        dropout: Dropout probability after the projection.
        separable: Whether the 3x3 convolutions are depthwise separable (arXiv:1802.02611).

    Shapes:
        features: float (batch, in_channels, H, W)
        returns: float (batch, out_channels, H, W)

    Source: Chen et al. 2017, arXiv:1706.05587, section 3.3.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int = 256,
        *,
        atrous_rates: Sequence[int],
        dropout: float = 0.5,
        norm: str = "batch",
        separable: bool = False,
    ) -> None:
        super().__init__()
        build = partial(conv_norm_relu, in_channels, out_channels, norm=norm)
        self.convs = nn.ModuleList(
            [
                build(1),
                *(build(3, dilation=rate, separable=separable) for rate in atrous_rates),
                ImagePooling(in_channels, out_channels, norm),
            ]
        )
        self.project = conv_norm_relu(len(self.convs) * out_channels, out_channels, 1, norm=norm)
        self.project.append(nn.Dropout(dropout))

    def forward(self, features: Tensor) -> Tensor:
        """Compute all branches and project them."""
        return self.project(torch.cat([branch(features) for branch in self.convs], dim=1))
