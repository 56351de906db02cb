"""The small layers that all systems are made of."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class BatchNorm2d(nn.BatchNorm2d):
    """Batch norm that also trains where a channel has a single value.

    One picture in a batch leaves one value per channel after image pooling, and a single value has
    no variance: `nn.BatchNorm2d` raises there. This one normalises such a value with its running
    statistics, and does not update them.

    Shapes:
        features: float (batch, channels, H, W); the result has the same shape.
    """

    def forward(self, features: Tensor) -> Tensor:
        """Normalise the features over batch and place."""
        if self.training and features.numel() == features.shape[1]:
            return F.batch_norm(
                features, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps
            )
        return super().forward(features)


def build_norm(
    norm: str, channels: int, *, eps: float = 1e-5, momentum: float = 0.1
) -> nn.BatchNorm2d | nn.GroupNorm:
    """Make a normalisation layer.

    Args:
        norm: "batch", or "group" for GroupNorm (arXiv:1803.08494), which does not care how many
            pictures a batch has. It has 32 groups, or the most that divide both 32 and `channels`.
        channels: Channels of the features.
        eps: Added to the variance.
        momentum: Share of the batch in the running statistics (batch norm only).
    """
    if norm == "batch":
        return BatchNorm2d(channels, eps=eps, momentum=momentum)
    return nn.GroupNorm(math.gcd(32, channels), channels, eps=eps)


def conv_norm_relu(
    in_channels: int, out_channels: int, kernel_size: int, *, norm: str, dilation: int = 1
) -> nn.Sequential:
    """Make a convolution that keeps height and width, its normalisation and a ReLU."""
    padding = dilation * (kernel_size // 2)
    return nn.Sequential(
        nn.Conv2d(
            in_channels, out_channels, kernel_size, padding=padding, dilation=dilation, bias=False
        ),
        build_norm(norm, out_channels),
        nn.ReLU(inplace=True),
    )


def upsample(features: Tensor, size_hw: torch.Size | tuple[int, int]) -> Tensor:
    """Resize features to a height and width: bilinear, `align_corners=False`."""
    return F.interpolate(features, size=size_hw, mode="bilinear", align_corners=False)
