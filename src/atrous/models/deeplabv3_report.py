"""The DeepLabv3 of the student report that this project replicates."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from atrous.models.interfaces import Backbone, Head
from atrous.models.layers import build_conv, build_norm, upsample


class DeepLabv3ReportHead(Head):
    """ASPP of plain convolutions with bias, and a decoder that upsamples twice.

    The five branches (1x1, three 3x3 atrous, 1x1 on the pooled features) have no normalization and
    are concatenated without a projection. The decoder: 1x1 and 3x3 convolution, batch norm and
    ReLU, upsampling to stride 4, 1x1 convolution, upsampling to the image, classifier, batch norm.
    The report states the number of parameters of each part, which determines the biases and batch
    norms (of 256 and `num_classes` channels), but not the activations: here a ReLU follows every
    convolution except the classifier.

    Here, the classifier is before the second upsampling. A 1x1 convolution and bilinear upsampling
    commute, and 21 channels cost a twelfth of 256; the training statistics of the batch norm after
    it are those of the smaller map.
    """

    classifier_paths = ("classifier", "classifier_norm")

    def __init__(
        self, backbone: Backbone, num_classes: int, *, atrous_rates: Sequence[int], norm: str
    ) -> None:
        super().__init__()
        self.input_stages = (1, len(backbone.channels) - 1)
        in_channels = backbone.channels[-1]
        branches = (build_conv(in_channels, 256, 3, dilation=n, bias=True) for n in atrous_rates)
        self.aspp = nn.ModuleList([nn.Conv2d(in_channels, 256, 1), *branches])
        self.pooling = nn.Conv2d(in_channels, 256, 1)
        self.project = nn.Conv2d((len(self.aspp) + 1) * 256, 256, 1)
        self.conv = nn.Conv2d(256, 256, 3, padding=1)
        self.conv_norm = build_norm(norm, 256)
        self.refine = nn.Conv2d(256, 256, 1)
        self.classifier = nn.Conv2d(256, num_classes, 1)
        self.classifier_norm = build_norm(norm, num_classes)

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Compute the logits at stride 4."""
        low_level, deepest = (features[stage] for stage in self.input_stages)
        pooled = self.pooling(deepest.mean((2, 3), keepdim=True))
        branches = [branch(deepest) for branch in self.aspp]
        branches.append(pooled.expand_as(branches[0]))
        decoded = self.project(torch.cat(branches, dim=1).relu_()).relu_()
        decoded = self.conv_norm(self.conv(decoded)).relu_()
        decoded = self.refine(upsample(decoded, low_level.shape[-2:])).relu_()
        return self.classifier_norm(self.classifier(decoded))
