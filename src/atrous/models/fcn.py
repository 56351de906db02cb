"""FCN: a 3x3 convolution and a classifier."""

from torch import nn

from atrous.models.interfaces import Backbone, SequentialHead
from atrous.models.layers import conv_norm_relu


class FCNHead(SequentialHead):
    """A 3x3 convolution and a classifier on one feature map, as in torchvision.

    On the last map it is the baseline, as torchvision's `fcn_resnet50`: the resolution is that of
    the dilated backbone, where the paper adds scores of earlier maps. On an earlier map it is the
    auxiliary head of the other systems, which is only used in training.

    Source: Long et al. 2014, arXiv:1411.4038; as auxiliary loss: Zhao et al. 2016,
    arXiv:1612.01105, section 3.3.
    """

    classifier_paths = ("4",)

    def __init__(self, backbone: Backbone, num_classes: int, *, norm: str, stage: int = -1) -> None:
        in_channels = backbone.channels[stage]
        super().__init__(
            *conv_norm_relu(in_channels, in_channels // 4, 3, norm=norm),
            nn.Dropout(0.1),
            nn.Conv2d(in_channels // 4, num_classes, 1),
        )
        self.input_stages = (stage % len(backbone.channels),)
