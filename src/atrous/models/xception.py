"""The aligned Xception-65 of DeepLabv3+."""

from collections import OrderedDict

from torch import Tensor, nn

from atrous.models.interfaces import Backbone
from atrous.models.layers import build_conv, build_norm, init_he

_EPS = 1e-3


class XceptionBlock(nn.Module):
    """Three separable convolutions and a shortcut.

    Args:
        widths: Channels of the three convolutions.
        stride: Stride of the last of them and of the shortcut.
        is_last: Whether this is the last block, which has no shortcut, and ReLUs after each
            convolution instead of before each separable convolution.
    """

    def __init__(
        self,
        in_channels: int,
        widths: tuple[int, int, int],
        stride: int,
        dilation: int,
        norm: str,
        *,
        is_last: bool = False,
    ) -> None:
        super().__init__()
        self.is_last = is_last
        self.shortcut = None
        if not is_last and (stride > 1 or widths[-1] != in_channels):
            self.shortcut = _conv_norm(in_channels, widths[-1], 1, stride, norm)
        self.stack = nn.Sequential()
        for number, width in enumerate(widths, start=1):
            if not is_last:
                # The first one must not change the input of the shortcut.
                self.stack.add_module(f"act{number}", nn.ReLU(inplace=number > 1))
            conv = _separable(
                in_channels, width, stride if number == 3 else 1, dilation, norm, relu=is_last
            )
            self.stack.add_module(f"conv{number}", conv)
            in_channels = width

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Return the output, and the input of the last convolution, before its stride."""
        *first, last = self.stack
        finest = features
        for module in first:
            finest = module(finest)
        residual = last(finest)
        if self.is_last:
            return residual, finest
        residual += features if self.shortcut is None else self.shortcut(features)
        return residual, finest


class Xception65(Backbone):
    """Aligned Xception: 65 layers, with strided separable convolutions instead of pooling.

    Module names are those of timm's `xception65`, so its weights can be loaded. A block that loses
    its stride keeps the dilation of the block before, and all later ones are dilated twice as much:
    every second feature at output stride 8 equals a feature at 16.

    Shapes:
        returns: maps of 128, 256, 728, 1024 and 2048 channels; the first four are the inputs of
            strided convolutions

    Source: Chen et al. 2018, arXiv:1802.02611, section 3.2 and figure 4.
    """

    channels = (128, 256, 728, 1024, 2048)
    auxiliary_stage = 3

    def __init__(
        self, *, output_stride: int = 16, norm: str = "batch", in_channels: int = 3
    ) -> None:
        super().__init__()
        self.strides = tuple(min(stride, output_stride) for stride in (2, 4, 8, 16, 32))
        self.stem = nn.Sequential(
            _conv_norm(in_channels, 32, 3, 2, norm).append(nn.ReLU(inplace=True)),
            _conv_norm(32, 64, 3, 1, norm).append(nn.ReLU(inplace=True)),
        )
        self.blocks = nn.ModuleList()
        layouts = [(64, (128,) * 3), (128, (256,) * 3), (256, (728,) * 3)]
        layouts += [(728, (728,) * 3)] * 16 + [(728, (728, 1024, 1024))]
        stride, dilation = 2, 1
        for index, (channels, widths) in enumerate(layouts):
            is_strided = index in (0, 1, 2, 19)
            loses_stride = is_strided and stride == output_stride
            block_stride = 2 if is_strided and not loses_stride else 1
            self.blocks.append(XceptionBlock(channels, widths, block_stride, dilation, norm))
            stride *= block_stride
            dilation *= 2 if loses_stride else 1
        self.blocks.append(XceptionBlock(1024, (1536, 1536, 2048), 1, dilation, norm, is_last=True))
        init_he(self, "fan_out")

    def forward(self, image: Tensor) -> list[Tensor]:
        """Compute the five feature maps."""
        features = []
        deepest = self.stem(image)
        for index, block in enumerate(self.blocks):
            deepest, finest = block(deepest)
            if index in (0, 1, 2, 19):
                features.append(finest)
        return [*features, deepest]


def _conv_norm(
    in_channels: int, out_channels: int, kernel_size: int, stride: int, norm: str
) -> nn.Sequential:
    conv = build_conv(in_channels, out_channels, kernel_size, stride)
    return nn.Sequential(OrderedDict(conv=conv, bn=build_norm(norm, out_channels, eps=_EPS)))


def _separable(
    in_channels: int, out_channels: int, stride: int, dilation: int, norm: str, *, relu: bool
) -> nn.Sequential:
    return nn.Sequential(
        OrderedDict(
            conv_dw=build_conv(
                in_channels, in_channels, 3, stride, dilation=dilation, groups=in_channels
            ),
            bn_dw=build_norm(norm, in_channels, eps=_EPS),
            act_dw=nn.ReLU(inplace=True) if relu else nn.Identity(),
            conv_pw=build_conv(in_channels, out_channels, 1),
            bn_pw=build_norm(norm, out_channels, eps=_EPS),
            act_pw=nn.ReLU(inplace=True) if relu else nn.Identity(),
        )
    )
