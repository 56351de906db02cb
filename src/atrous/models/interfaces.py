"""The interfaces of backbones and heads."""

from collections.abc import Sequence

from torch import Tensor, nn


class Backbone(nn.Module):
    """A network that turns an image into feature maps of increasing stride.

    Args, of those that a backbone has:
        output_stride: Image pixels per cell of the last feature map: 8, 16 or 32.
        norm: "batch", or "group" for GroupNorm.
        in_channels: Channels of the image.

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

    Args, of those that a head has:
        backbone: Computes the features.
        num_classes: Channels of the logits.
        atrous_rates: Rates of the ASPP's 3x3 convolutions, in feature cells, not image pixels.
        dropout: Dropout probability.
        norm: "batch" or "group".

    Shapes:
        features: the backbone's maps
        returns: logits, float (batch, num_classes, H/stride, W/stride)

    Attributes:
        input_stages: Indices of the feature maps that it reads, ascending.
        classifier_paths: Names of the modules whose weights depend on the number of classes.
            `forward` ends with them, one after the other.
        overshoots: Whether the logits of an odd image size are one row or column too large.
    """

    input_stages: tuple[int, ...]
    classifier_paths: tuple[str, ...] = ("classifier",)
    overshoots = False


class SequentialHead(Head, nn.Sequential):
    """A head whose layers follow each other on one feature map."""

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Compute the logits at the stride of the feature map."""
        return super().forward(features[self.input_stages[0]])
