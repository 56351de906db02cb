"""SegNet and Bayesian SegNet."""

from collections.abc import Sequence
from functools import partial

from torch import Tensor, nn
from torch.nn import functional as F

from atrous.models.interfaces import Head
from atrous.models.layers import conv_norm_relu, init_he, match_memory_format
from atrous.models.vgg import VGG16


class SegNetHead(Head):
    """The decoder of SegNet, which mirrors the encoder and unpools with its max-pooling indices.

    Each decoder stage has as many convolutions as the corresponding stage of VGG16; the last
    convolution computes the logits. The indices are recomputed from the encoder's feature maps.

    In Bayesian SegNet, dropout follows the three deepest stages of encoder and decoder, as in the
    authors' published network ("central encoder and decoder units" in the paper). Predictions are
    sampled with `Segmenter.sample_probs`.

    Args:
        backbone: VGG16, with the same dropout.
        dropout: 0 in SegNet, 0.5 in Bayesian SegNet.

    Source: Badrinarayanan et al. 2015, arXiv:1511.00561; Kendall et al. 2015, arXiv:1511.02680.
    """

    classifier_paths = ("stages.4.3",)

    def __init__(
        self, backbone: VGG16, num_classes: int, *, norm: str, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.input_stages = tuple(range(len(backbone.channels)))
        self.dropout = nn.Dropout(dropout)
        self.stages = nn.ModuleList()
        for stage in reversed(range(len(backbone.channels))):
            width = backbone.channels[stage]
            build = partial(conv_norm_relu, width, kernel_size=3, norm=norm, bias=True)
            layers: list[nn.Module] = []
            for _ in range(backbone.num_convs[stage] - 1):
                layers += build(width)
            if stage == 0:
                layers.append(nn.Conv2d(width, num_classes, 3, padding=1))
            else:
                layers += build(backbone.channels[stage - 1])
            if stage >= 2:
                layers.append(nn.Dropout(dropout))
            self.stages.append(nn.Sequential(*layers))
        init_he(self)

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Compute the logits at the size of the image."""
        pooled = [F.max_pool2d(stage, 2, ceil_mode=True, return_indices=True) for stage in features]
        decoded = self.dropout(pooled[-1][0])
        for stage, encoded, (_, indices) in zip(
            self.stages, reversed(features), reversed(pooled), strict=True
        ):
            decoded = stage(unpool(decoded, indices, like=encoded))
        return decoded


def unpool(pooled: Tensor, indices: Tensor, *, like: Tensor) -> Tensor:
    """Put each value at the position of its maximum, and 0 elsewhere.

    Uses scatter, because `nn.MaxUnpool2d` is not deterministic on a GPU.

    Shapes:
        pooled, indices: float and int64 (batch, channels, ceil(H/2), ceil(W/2))
        like: (batch, channels, H, W), the input of the pooling
        returns: float (batch, channels, H, W)
    """
    flat = pooled.new_zeros(like.shape).flatten(2)
    flat = flat.scatter(2, indices.flatten(2), pooled.flatten(2))
    return match_memory_format(flat.unflatten(2, like.shape[-2:]), like)
