"""Layers shared by all models."""

import math
from collections.abc import Callable, Collection, Container, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode


class BatchNorm2d(nn.BatchNorm2d):
    """Batch norm that also trains on a single value per channel.

    After image pooling, a batch of one image has one value per channel, which has no variance:
    `nn.BatchNorm2d` raises an error. This layer normalizes it with the running statistics, and
    does not update them.

    Shapes:
        features: float (batch, channels, H, W); the result has the same shape.
    """

    def forward(self, features: Tensor) -> Tensor:
        """Normalize the features over batch and positions."""
        if self.training and features.numel() == features.shape[1]:
            return F.batch_norm(
                features, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps
            )
        return super().forward(features)


def build_norm(
    norm: str, channels: int, *, eps: float = 1e-5, momentum: float = 0.1
) -> nn.BatchNorm2d | nn.GroupNorm:
    """Build a normalization layer.

    Args:
        norm: "batch", or "group" for GroupNorm (arXiv:1803.08494), which does not depend on the
            batch size. The number of groups is the largest divisor of both 32 and `channels`.
        momentum: Weight of the batch in the running statistics (batch norm only).
    """
    if norm == "batch":
        return BatchNorm2d(channels, eps=eps, momentum=momentum)
    return nn.GroupNorm(math.gcd(32, channels), channels, eps=eps)


def build_conv(
    in_channels: int,
    out_channels: int,
    kernel_size: int,
    stride: int = 1,
    *,
    dilation: int = 1,
    groups: int = 1,
    bias: bool = False,
) -> nn.Conv2d:
    """Build a convolution with an odd kernel, padded so that stride 1 keeps height and width."""
    padding = dilation * (kernel_size // 2)
    return nn.Conv2d(
        in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias
    )


def conv_norm_relu(
    in_channels: int,
    out_channels: int,
    kernel_size: int,
    *,
    norm: str,
    dilation: int = 1,
    bias: bool = False,
    separable: bool = False,
) -> nn.Sequential:
    """Build a convolution that keeps height and width, a normalization layer and a ReLU.

    With `separable`, the convolution is depthwise, and another three layers with a 1x1 convolution
    follow (arXiv:1802.02611, section 3.1).
    """
    groups, width = (in_channels, in_channels) if separable else (1, out_channels)
    return nn.Sequential(
        build_conv(in_channels, width, kernel_size, dilation=dilation, groups=groups, bias=bias),
        build_norm(norm, width),
        nn.ReLU(inplace=True),
        *(conv_norm_relu(width, out_channels, 1, norm=norm) if separable else ()),
    )


def init_he(module: nn.Module, mode: Literal["fan_in", "fan_out"] = "fan_in") -> None:
    """Initialize all convolutions for ReLUs (He et al.), with biases of 0.

    Source: He et al. 2015, arXiv:1502.01852, section 2.2.
    """
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.kaiming_normal_(layer.weight, mode=mode, nonlinearity="relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


class _SkipDraws(TorchFunctionMode):
    """Skips `normal_`, which imports torch's compiler (1 s) on the meta device."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Collection[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if func.__name__ == "normal_":
            return args[0] if args else kwargs["tensor"]
        return func(*args, **kwargs)


@contextmanager
def on_meta_device() -> Iterator[None]:
    """Build modules on the meta device, without memory and random numbers."""
    with torch.device("meta"), _SkipDraws():
        yield


def match_memory_format(features: Tensor, like: Tensor) -> Tensor:
    """Return features in channels_last if `like` is, so that concatenation is fast."""
    if like.is_contiguous(memory_format=torch.channels_last):
        return features.contiguous(memory_format=torch.channels_last)
    return features


def upsample(features: Tensor, size_hw: torch.Size | tuple[int, int]) -> Tensor:
    """Resize features to a height and width: bilinear, `align_corners=False`."""
    return F.interpolate(features, size=size_hw, mode="bilinear", align_corners=False)


def upsample_by_products(features: Tensor, size_hw: torch.Size | tuple[int, int]) -> Tensor:
    """Compute `upsample` as two products with interpolation matrices, in float32.

    On a GPU this is faster, above all backward, where torch's kernel adds to shared cells one by
    one; and it is deterministic.

    Shapes:
        features: float (batch, channels, height, width)
        returns: float32 (batch, channels, *size_hw)
    """
    with torch.autocast(features.device.type, enabled=False):
        rows, columns = (
            F.interpolate(torch.eye(old, device=features.device)[None], new, mode="linear")[0]
            for old, new in zip(features.shape[-2:], size_hw, strict=True)
        )
        return rows.T @ (features.float().contiguous() @ columns)


def resize_logits(logits: Tensor, like: Tensor) -> Tensor:
    """Resize logits to the height and width of an image or a mask, in float32 at least."""
    # Under autocast, resizing in bfloat16 would be visible, so the logits become float32 before.
    precise = logits.to(torch.promote_types(logits.dtype, torch.float32))
    if logits.is_cuda and not torch.compiler.is_exporting():
        return upsample_by_products(precise, like.shape[-2:])
    return upsample(precise, like.shape[-2:])


def collect_maps(
    modules: Iterable[nn.Module], features: Tensor, ends: Container[int]
) -> list[Tensor]:
    """Run modules one after the other; return the outputs of those at the positions `ends`."""
    maps = []
    for position, module in enumerate(modules):
        features = module(features)
        if position in ends:
            maps.append(features)
    return maps


def crop(features: Tensor, size_hw: torch.Size | tuple[int, int]) -> Tensor:
    """Crop features to a height and width, from the top left.

    Exports use indices, because a slice would specialize on odd or even sizes.
    """
    height, width = size_hw
    if not torch.compiler.is_exporting():
        return features[..., :height, :width]
    rows = torch.arange(height, device=features.device)
    columns = torch.arange(width, device=features.device)
    return features.index_select(-2, rows).index_select(-1, columns)
