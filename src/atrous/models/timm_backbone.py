"""Backbones of timm, by the name `timm/NAME`."""

from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from atrous.errors import ConfigError, WeightsError, did_you_mean
from atrous.extras import import_extra
from atrous.models.interfaces import Backbone


class TimmBackbone(Backbone):
    """The feature maps of a timm model, for image sizes that need not be multiples of the stride.

    Args:
        name: timm's name, with or without a tag, such as `convnext_tiny.fb_in22k`.
        norm: "batch", for the model's own layers.

    Raises:
        ConfigError: timm or the model is missing, or it has no maps at this output stride.

    Source: https://github.com/huggingface/pytorch-image-models
    """

    key_prefix = "network."

    def __init__(
        self, name: str, *, output_stride: int = 16, norm: str = "batch", in_channels: int = 3
    ) -> None:
        super().__init__()
        timm = import_extra("timm", "timm")
        _check_name(timm, name)
        if norm != "batch":
            raise ConfigError(f"timm/{name} has normalization layers of its own: remove norm.")
        self.network = _build_features(timm, name, output_stride, in_channels)
        if hasattr(self.network, "model"):  # a wrapper that keeps the names of the weights
            self.key_prefix += "model."
        info: Any = self.network.feature_info
        config = timm.get_pretrained_cfg(name)
        self.channels, self.strides = tuple(info.channels()), tuple(info.reduction())
        self.auxiliary_stage = len(self.channels) - 2
        self.mean, self.std = tuple(config.mean), tuple(config.std)
        layout = str(getattr(self.network, "output_fmt", "NCHW"))
        if self.strides[-1] != output_stride or 4 not in self.strides or "NCHW" not in layout:
            raise _cannot_stride(name, output_stride)

    def forward(self, image: Tensor) -> list[Tensor]:
        """Compute the feature maps."""
        (height, width), last = image.shape[-2:], self.strides[-1]
        maps = self.network(F.pad(image, (0, -width % last, 0, -height % last)))
        return [
            one[..., : -(-height // stride), : -(-width // stride)]
            for one, stride in zip(maps, self.strides, strict=True)
        ]


def load_timm_weights(name: str) -> dict[str, Tensor]:
    """Load the published weights of a timm model; raises WeightsError if there are none."""
    timm = import_extra("timm", "timm")
    _check_name(timm, name)
    try:
        return timm.create_model(name, pretrained=True).state_dict()
    except (OSError, RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise WeightsError(
            f"The weights of timm/{name} could not be loaded ({reason}). Without a network, give "
            "their file with --init PATH, or use random weights (--init none)."
        ) from error


def _check_name(timm: Any, name: str) -> None:
    known = [*timm.list_models(), *timm.list_pretrained()]
    if name not in known:
        near = did_you_mean(name, known)
        raise ConfigError(f"timm has no model '{name}'.{near if len(near) < 300 else ''}")


def _build_features(timm: Any, name: str, output_stride: int, in_channels: int) -> nn.Module:
    options = {"features_only": True, "in_chans": in_channels}
    if output_stride != 32:
        options["output_stride"] = output_stride
    try:
        try:
            return timm.create_model(name, feature_cls="getter", **options)
        except TypeError:  # MobileNetV3 and V4 have an output stride without this wrapper only
            return timm.create_model(name, **options)
    except (TypeError, AssertionError, NotImplementedError, RuntimeError, AttributeError) as error:
        raise _cannot_stride(name, output_stride) from error


def _cannot_stride(name: str, output_stride: int) -> ConfigError:
    return ConfigError(
        f"timm/{name} has no feature maps at output stride {output_stride}. Use another "
        "stride, or a backbone such as resnet50d, convnext_tiny, efficientnet_b0 or regnety_032."
    )
