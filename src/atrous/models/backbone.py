"""What every backbone promises to the heads."""

from torch import Tensor, nn


class Backbone(nn.Module):
    """A network that turns a picture into feature maps of growing stride.

    Attributes:
        channels: Channels of each feature map, in the order that `forward` returns them.
        strides: Picture pixels per feature cell of each map; the last is the output stride.
        auxiliary_stage: Position of the map that an auxiliary head reads, where one is offered.
    """

    channels: tuple[int, ...]
    strides: tuple[int, ...]
    auxiliary_stage: int

    def forward(self, image: Tensor) -> list[Tensor]:
        """Compute all feature maps.

        Shapes:
            image: float (batch, in_channels, H, W), normalised
            returns: one float (batch, channels[i], ceil(H/strides[i]), ceil(W/strides[i])) per i
        """
        raise NotImplementedError
