"""VGG16 backbone with batch norm."""

from torch import Tensor, nn

from atrous.models.interfaces import Backbone
from atrous.models.layers import conv_norm_relu, init_he


class VGG16(Backbone):
    """The 13 convolutions of VGG16, in five stages with max pooling in between.

    Module names are those of torchvision's `vgg16_bn`, so its weights can be loaded. Pooling rounds
    odd sizes up, where torchvision rounds down.

    Args:
        dropout: Dropout after the third and the fourth pooling; 0 in VGG.

    Shapes:
        returns: the last map of each stage, before pooling

    Source: Simonyan and Zisserman 2014, arXiv:1409.1556, table 1, column D.
    """

    channels = (64, 128, 256, 512, 512)
    strides = (1, 2, 4, 8, 16)
    num_convs = (2, 2, 3, 3, 3)

    def __init__(self, *, norm: str = "batch", in_channels: int = 3, dropout: float = 0.0) -> None:
        super().__init__()
        index = 0
        for stage, (width, num_convs) in enumerate(zip(self.channels, self.num_convs, strict=True)):
            if stage:
                self.add_module(str(index), nn.MaxPool2d(2, ceil_mode=True))
                index += 1
            if stage >= 3:
                self.add_module(f"dropout{stage}", nn.Dropout(dropout))
            for _ in range(num_convs):
                for layer in conv_norm_relu(in_channels, width, 3, norm=norm, bias=True):
                    self.add_module(str(index), layer)
                    index += 1
                in_channels = width
        init_he(self)

    def forward(self, image: Tensor) -> list[Tensor]:
        """Compute the five feature maps."""
        features = []
        deepest = image
        for module in self.children():
            if isinstance(module, nn.MaxPool2d):
                features.append(deepest)
            deepest = module(deepest)
        return [*features, deepest]
