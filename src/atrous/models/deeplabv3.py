"""DeepLabv3."""

from collections.abc import Sequence

from torch import Tensor, nn

from atrous.models.aspp import ASPP
from atrous.models.backbone import Backbone
from atrous.models.layers import conv_norm_relu


class DeepLabv3Head(nn.Sequential):
    """ASPP on the last feature map, a 3x3 convolution and the classifier, as in torchvision.

    Args:
        backbone: Gives the features.
        num_classes: Channels of the logits.
        atrous_rates: Rates of the ASPP, in feature cells.
        dropout: Dropout after the ASPP's projection.
        norm: "batch" or "group".

    Shapes:
        features: the backbone's maps
        returns: logits, float (batch, num_classes, H/stride, W/stride)

    Source: Chen et al. 2017, arXiv:1706.05587.
    """

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

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Compute the logits at the output stride."""
        return super().forward(features[-1])
