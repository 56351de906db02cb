"""Fast training of dilated depthwise convolutions on a CPU."""

from torch import Tensor, nn
from torch.nn import functional as F


class DilatedDepthwiseConv2d(nn.Conv2d):
    """Depthwise convolution that is trained phase by phase, without dilation.

    The cells of one phase, every `dilation`-th in both directions, only meet each other: a dilated
    convolution of the map is one without dilation of each phase (arXiv:1412.7062, section 3.1). A
    CPU computes the gradient of the latter several times faster (docs/results.md). Results differ
    by rounding.

    Shapes:
        features: float (batch, channels, H, W); the result has the same shape.
    """

    def forward(self, features: Tensor) -> Tensor:
        """Compute the convolution."""
        (height, width), rate = features.shape[-2:], self.dilation[0]
        # Phases of one or two cells are slower than the dilated convolution.
        if not self.training or min(height, width) <= 2 * rate:
            return super().forward(features)
        padded = F.pad(features, (0, -width % rate, 0, -height % rate))
        batch, channels, rows, columns = (*padded.shape[:2], *(n // rate for n in padded.shape[2:]))
        phases = padded.permute(0, 2, 3, 1).reshape(batch, rows, rate, columns, rate, channels)
        phases = phases.permute(0, 2, 4, 1, 3, 5).reshape(-1, rows, columns, channels)
        phases, padding = phases.permute(0, 3, 1, 2), self.kernel_size[0] // 2
        phases = F.conv2d(phases, self.weight, self.bias, padding=padding, groups=channels)
        phases = phases.permute(0, 2, 3, 1).reshape(batch, rate, rate, rows, columns, channels)
        cells = phases.permute(0, 3, 1, 4, 2, 5).reshape(batch, *padded.shape[2:], channels)
        return cells.permute(0, 3, 1, 2)[..., :height, :width]


def speed_up_depthwise(model: nn.Module) -> None:
    """Compute the dilated depthwise convolutions of a model phase by phase while it trains.

    Weights, state-dict keys and the model in evaluation mode stay the same.
    """
    for module in model.modules():
        if type(module) is not nn.Conv2d or module.padding_mode != "zeros":
            continue
        rate, size = module.dilation[0], module.kernel_size[0]
        is_depthwise = module.groups == module.in_channels == module.out_channels > 1
        has_same_size = module.stride == (1, 1) and module.padding == (rate * (size // 2),) * 2
        is_square = module.kernel_size == (size, size) and module.dilation == (rate, rate)
        if is_depthwise and has_same_size and is_square and size % 2 and rate > 1:
            module.__class__ = DilatedDepthwiseConv2d
