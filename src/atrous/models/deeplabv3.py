"""DeepLabv3: atrous convolution in parallel, or in cascade."""

from collections.abc import Sequence
from typing import Any

from torch import nn

from atrous.models.aspp import ASPP
from atrous.models.interfaces import Backbone, Head, SequentialHead
from atrous.models.layers import conv_norm_relu
from atrous.models.resnet import ResNet, build_stage, init_resnet


class DeepLabv3Head(SequentialHead):
    """ASPP on the last feature map, a 3x3 convolution and the classifier, as in torchvision.

    Source: Chen et al. 2017, arXiv:1706.05587, section 3.3.
    """

    classifier_paths = ("4",)

    def __init__(
        self,
        backbone: Backbone,
        num_classes: int,
        *,
        atrous_rates: Sequence[int],
        dropout: float,
        norm: str,
    ) -> None:
        super().__init__(
            ASPP(backbone.channels[-1], atrous_rates=atrous_rates, dropout=dropout, norm=norm),
            *conv_norm_relu(256, 256, 3, norm=norm),
            nn.Conv2d(256, num_classes, 1),
        )
        self.input_stages = (len(backbone.channels) - 1,)


class CascadeHead(SequentialHead):
    """Copies of the ResNet's last block in cascade, and the classifier.

    "Going deeper with atrous convolution" in the paper: block5, block6 and block7 have the layers
    of block4 (`layer4` of the ResNet), with their own weights. Each halves the resolution, or
    doubles the rate once the output stride is reached:

        output stride    8    16    32    64    128    256
        block4           4     2     1     1      1      1
        block5           8     4     2     1      1      1
        block6          16     8     4     2      1      1
        block7          32    16     8     4      2      1

    `multi_grid` multiplies the rates within each block, including block4: at output stride 16 with
    (1, 2, 4), block5 has the rates 4 * (1, 2, 4). The paper names no layers between the last block
    and the logits; here they are dropout and a 1x1 convolution.

    Args:
        backbone: The ResNet up to block4, built for the same output stride.
        cascade_blocks: Number of the last block: 4 (the plain dilated ResNet) to 7.
        output_stride: Image pixels per cell of the logits: 8 to 2^(cascade_blocks + 1).
        multi_grid: Unit rates of the three units of each block.

    Source: Chen et al. 2017, arXiv:1706.05587, section 3.2, figure 3 and tables 1-4.
    """

    def __init__(
        self,
        backbone: ResNet,
        num_classes: int,
        *,
        cascade_blocks: int,
        output_stride: int,
        multi_grid: Sequence[int],
        dropout: float,
        norm: str,
    ) -> None:
        super().__init__()
        self.input_stages = (len(backbone.channels) - 1,)
        for number in range(5, cascade_blocks + 1):
            block = build_stage(backbone.depth, number, output_stride, norm, multi_grid)
            self.add_module(f"block{number}", block)
        init_resnet(self)
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Conv2d(backbone.channels[-1], num_classes, 1)


def build_deeplabv3_head(
    backbone: Backbone,
    num_classes: int,
    *,
    atrous_rates: Sequence[int],
    cascade_blocks: int | None = None,
    output_stride: int,
    multi_grid: Sequence[int] = (1, 1, 1),
    **shared: Any,
) -> Head:
    """Build the ASPP head, or the cascade if `cascade_blocks` is set; arguments as there."""
    if cascade_blocks is None:
        return DeepLabv3Head(backbone, num_classes, atrous_rates=atrous_rates, **shared)
    assert isinstance(backbone, ResNet)
    shared |= {"output_stride": output_stride, "multi_grid": multi_grid}
    return CascadeHead(backbone, num_classes, cascade_blocks=cascade_blocks, **shared)
