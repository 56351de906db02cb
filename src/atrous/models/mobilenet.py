"""MobileNetV3-Large backbone with a configurable output stride."""

from functools import partial

from torch import Tensor, nn
from torchvision.models import mobilenet_v3_large

from atrous.models.interfaces import Backbone
from atrous.models.layers import build_norm, collect_maps


class MobileNetV3Large(Backbone):
    """Torchvision's MobileNetV3-Large without its classifier, dilated.

    At output stride 16 it is torchvision's `mobilenet_v3_large(dilated=True)`, where the depthwise
    convolution that loses its stride is also dilated. At 8, the stage before loses its stride as in
    the ResNets: the strided convolution keeps its dilation, and all later ones are dilated twice as
    much. Every second feature at stride 8 equals a feature at 16; features at 32 (the network of
    the paper, as trained on ImageNet) are close but not equal.

    Source: Howard et al. 2019, arXiv:1905.02244, table 1.
    """

    channels = (16, 24, 40, 112, 960)
    # Torchvision's auxiliary head reads the first map of stride 8, after block 4.
    auxiliary_stage = 2
    _stage_ends = (1, 3, 4, 12, 16)

    def __init__(
        self, *, output_stride: int = 16, norm: str = "batch", in_channels: int = 3
    ) -> None:
        super().__init__()
        self.strides = tuple(min(stride, output_stride) for stride in (2, 4, 8, 16, 32))
        blocks = mobilenet_v3_large(
            weights=None,
            dilated=output_stride < 32,
            norm_layer=partial(build_norm, norm, eps=1e-3, momentum=1e-2),
        ).features
        if in_channels != 3:
            blocks[0][0] = nn.Conv2d(in_channels, 16, 3, stride=2, padding=1, bias=False)
            nn.init.kaiming_normal_(blocks[0][0].weight, mode="fan_out")
        if output_stride == 8:
            _find_depthwise(blocks[7]).stride = (1, 1)
            for depthwise in map(_find_depthwise, blocks[8:16]):
                dilation = 2 * depthwise.dilation[0]
                depthwise.dilation = (dilation, dilation)
                depthwise.padding = (dilation * (depthwise.kernel_size[0] // 2),) * 2
        for index, block in enumerate(blocks):
            self.add_module(str(index), block)

    def forward(self, image: Tensor) -> list[Tensor]:
        """Compute the five feature maps."""
        return collect_maps(self.children(), image, self._stage_ends)


def _find_depthwise(block: nn.Module) -> nn.Conv2d:
    return next(m for m in block.modules() if isinstance(m, nn.Conv2d) and m.groups > 1)
