"""The interfaces of backbones and heads."""

from torch import Tensor, nn


class Backbone(nn.Module):
    """A network that turns an image into feature maps of increasing stride.

    Attributes:
        channels: Channels of each feature map, in the order in which `forward` returns them.
        strides: Image pixels per cell of each feature map; the last is the output stride.
        auxiliary_stage: Index of the feature map that an auxiliary head reads, if the variant
            offers one.
        key_prefix: What precedes the state-dict keys of published weights in those of the backbone.
        mean, std: Normalization of RGB images in [0, 1] that the published weights expect.
    """

    key_prefix = ""
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    std: tuple[float, ...] = (0.229, 0.224, 0.225)

    channels: tuple[int, ...]
    strides: tuple[int, ...]
    auxiliary_stage: int

    def forward(self, image: Tensor) -> list[Tensor]:
        """Compute all feature maps.

        Shapes:
            image: float (batch, in_channels, H, W), normalized
            returns: one float (batch, channels[i], ceil(H/strides[i]), ceil(W/strides[i])) per i
        """
        raise NotImplementedError


class Head(nn.Module):
    """A network that turns feature maps into logits.

    Attributes:
        input_stages: Indices of the feature maps that it reads, ascending.
        classifier_paths: Names of the modules whose weights depend on the number of classes.
            `forward` ends with them, one after the other.
        overshoots: Whether the logits of an odd image size are one row or column too large.
    """

    input_stages: tuple[int, ...]
    classifier_paths: tuple[str, ...] = ("classifier",)
    overshoots = False
