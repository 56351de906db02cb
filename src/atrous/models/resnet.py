"""ResNet backbones with a configurable output stride."""

from collections.abc import Sequence

from torch import Tensor, nn

from atrous.models.interfaces import Backbone
from atrous.models.layers import build_conv, build_norm, init_he


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut (ResNet-18 and -34).

    Args:
        width: Channels inside the block; the output has `width * expansion`.
        stride: Stride of the first 3x3 convolution and of the shortcut.
        dilations: Dilation of the strided 3x3 convolution, and of the one after it.
    """

    expansion = 1

    def __init__(
        self, in_channels: int, width: int, stride: int, dilations: tuple[int, int], norm: str
    ) -> None:
        super().__init__()
        self.conv1 = build_conv(in_channels, width, 3, stride, dilation=dilations[0])
        self.bn1 = build_norm(norm, width)
        self.conv2 = build_conv(width, width, 3, dilation=dilations[1])
        self.bn2 = build_norm(norm, width)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = _build_shortcut(in_channels, width, stride, norm)

    def forward(self, features: Tensor) -> Tensor:
        """Add the residual to the shortcut."""
        residual = self.relu(self.bn1(self.conv1(features)))
        residual = self.bn2(self.conv2(residual))
        residual += features if self.downsample is None else self.downsample(features)
        return self.relu(residual)


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolution and a shortcut (ResNet-50 and -101).

    The stride is in the 3x3 convolution, as in torchvision. Arguments as in `BasicBlock`.
    """

    expansion = 4

    def __init__(
        self, in_channels: int, width: int, stride: int, dilations: tuple[int, int], norm: str
    ) -> None:
        super().__init__()
        out_channels = width * self.expansion
        self.conv1 = nn.Conv2d(in_channels, width, 1, bias=False)
        self.bn1 = build_norm(norm, width)
        self.conv2 = build_conv(width, width, 3, stride, dilation=dilations[0])
        self.bn2 = build_norm(norm, width)
        self.conv3 = nn.Conv2d(width, out_channels, 1, bias=False)
        self.bn3 = build_norm(norm, out_channels)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = _build_shortcut(in_channels, out_channels, stride, norm)

    def forward(self, features: Tensor) -> Tensor:
        """Add the residual to the shortcut."""
        residual = self.relu(self.bn1(self.conv1(features)))
        residual = self.relu(self.bn2(self.conv2(residual)))
        residual = self.bn3(self.conv3(residual))
        residual += features if self.downsample is None else self.downsample(features)
        return self.relu(residual)


class ResNet(Backbone):
    """ResNet whose last stages keep their resolution: stride is replaced by dilation.

    Module names are those of torchvision, so its weights can be loaded. So is the convention: in a
    stage that loses its stride, the strided convolution keeps the dilation of the stage before, and
    all later ones are dilated. Every second feature at output stride 8 equals a feature at 16.

    With a `multi_grid` other than (1, 1, 1), all 3x3 convolutions of block i of layer4 have
    `multi_grid[i]` times the rate of the stage, as in the paper: rates 2 * (1, 2, 4) at output
    stride 16. ResNet-18 and -34 use as many of them as they have blocks.

    Args:
        depth: Number of layers: 18, 34, 50 or 101.
        multi_grid: Unit rates of the three blocks of layer4.

    Shapes:
        returns: five maps: after the stem (stride 2), layer1 (4), layer2, layer3 and layer4

    Source: He et al. 2015, arXiv:1512.03385; Chen et al. 2017, arXiv:1706.05587, section 3.1.
    """

    auxiliary_stage = 3

    def __init__(
        self,
        depth: int,
        *,
        output_stride: int = 16,
        multi_grid: Sequence[int] = (1, 1, 1),
        norm: str = "batch",
        in_channels: int = 3,
    ) -> None:
        super().__init__()
        expansion = _LAYOUTS[depth][0].expansion
        self.depth = depth
        self.channels = (64, *(width * expansion for width in (64, 128, 256, 512)))
        self.strides = tuple(min(stride, output_stride) for stride in (2, 4, 8, 16, 32))
        self.conv1 = nn.Conv2d(in_channels, 64, 7, stride=2, padding=3, bias=False)
        self.bn1 = build_norm(norm, 64)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        self.layer1 = build_stage(depth, 1, output_stride, norm)
        self.layer2 = build_stage(depth, 2, output_stride, norm)
        self.layer3 = build_stage(depth, 3, output_stride, norm)
        self.layer4 = build_stage(depth, 4, output_stride, norm, multi_grid)
        init_resnet(self)

    def forward(self, image: Tensor) -> list[Tensor]:
        """Compute the five feature maps."""
        features = [self.relu(self.bn1(self.conv1(image)))]
        deepest = self.maxpool(features[0])
        for layer in (self.layer1, self.layer2, self.layer3, self.layer4):
            deepest = layer(deepest)
            features.append(deepest)
        return features


def build_stage(
    depth: int, stage: int, output_stride: int, norm: str, multi_grid: Sequence[int] = (1, 1, 1)
) -> nn.Sequential:
    """Build one stage of a ResNet, or a further copy of the last stage.

    Stage s has stride 2^(s+1). If that exceeds the output stride, its convolutions have the rate
    2^(s+1) / output_stride instead: at output stride 16, stages 4 to 7 have the rates 2, 4, 8 and
    16; at 8, stages 3 to 7 have 2, 4, 8, 16 and 32; at 256, all have 1.

    Args:
        stage: Number of the stage; those from 5 on are copies of stage 4 whose input has the width
            of the output, so that the shortcut has no weights.
        multi_grid: Factors on the rate of the stage, one per block.

    Source: Chen et al. 2017, arXiv:1706.05587, section 3.2 and figure 3.
    """
    block, layout = _LAYOUTS[depth]
    num_blocks, width = layout[min(stage, 4) - 1], 32 * 2 ** min(stage, 4)
    rate = max(1, 2 ** (stage + 1) // output_stride)
    rate_before = max(1, 2**stage // output_stride)
    dilations = [(rate_before, rate)] + [(rate, rate)] * (num_blocks - 1)
    if tuple(multi_grid) != (1, 1, 1):
        dilations = [(unit * rate, unit * rate) for unit in multi_grid[:num_blocks]]
    # The max pooling after the stem has the stride of stage 1.
    first_stride = 1 if stage == 1 or rate > 1 else 2
    out_channels = width * block.expansion
    in_channels = 64 if stage == 1 else out_channels // (2 if stage <= 4 else 1)
    first, *others = dilations
    return nn.Sequential(
        block(in_channels, width, first_stride, first, norm),
        *(block(out_channels, width, 1, dilation, norm) for dilation in others),
    )


_LAYOUTS: dict[int, tuple[type[BasicBlock] | type[Bottleneck], tuple[int, int, int, int]]] = {
    18: (BasicBlock, (2, 2, 2, 2)),
    34: (BasicBlock, (3, 4, 6, 3)),
    50: (Bottleneck, (3, 4, 6, 3)),
    101: (Bottleneck, (3, 4, 23, 3)),
}


def _build_shortcut(
    in_channels: int, out_channels: int, stride: int, norm: str
) -> nn.Module | None:
    if in_channels == out_channels:
        return None if stride == 1 else nn.MaxPool2d(1, stride)
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, 1, stride, bias=False), build_norm(norm, out_channels)
    )


def init_resnet(module_of_blocks: nn.Module) -> None:
    """Initialize weights so that every block starts as its shortcut, for stable training."""
    init_he(module_of_blocks, "fan_out")
    for module in module_of_blocks.modules():
        if isinstance(module, BasicBlock):
            nn.init.zeros_(module.bn2.weight)
        elif isinstance(module, Bottleneck):
            nn.init.zeros_(module.bn3.weight)
