"""The table of all variants, and how they are built."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import nn

from atrous.errors import ConfigError, did_you_mean
from atrous.models.backbone import Backbone
from atrous.models.deeplabv3 import DeepLabv3Head
from atrous.models.deeplabv3_report import DeepLabv3ReportHead
from atrous.models.deeplabv3plus import DeepLabv3PlusHead
from atrous.models.mobilenet import MobileNetV3Large
from atrous.models.options import complete_options
from atrous.models.resnet import ResNet
from atrous.models.segmenter import FCNHead, Segmenter


@dataclass(frozen=True)
class Variant:
    """A line of the table: a head on a backbone.

    Attributes:
        head: Makes the head.
        paper: Where it is described.
        backbone: Name of the backbone.
        head_options: The options of the head, beside those that all heads have.
        rates: ASPP rates at output stride 16, where none are given.
    """

    head: Callable[..., nn.Module]
    paper: str
    backbone: str
    head_options: tuple[str, ...]
    rates: tuple[int, int, int] = (6, 12, 18)

    @property
    def options(self) -> tuple[str, ...]:
        """Names of all options of the variant."""
        common = ("num_classes", "output_stride", "atrous_rates", "norm", "auxiliary")
        backbone_options = ("multi_grid",) if self.backbone.startswith("resnet") else ()
        return common + backbone_options + self.head_options


BACKBONES: dict[str, Callable[..., Backbone]] = {
    "resnet18": partial(ResNet, 18),
    "resnet34": partial(ResNet, 34),
    "resnet50": partial(ResNet, 50),
    "resnet101": partial(ResNet, 101),
    "mobilenet_v3_large": MobileNetV3Large,
}

VARIANTS: dict[str, Variant] = {
    **{
        f"deeplabv3_{name}": Variant(DeepLabv3Head, "arXiv:1706.05587", name, ("dropout",))
        for name in BACKBONES
    },
    **{
        f"deeplabv3plus_{name}": Variant(
            DeepLabv3PlusHead, "arXiv:1802.02611", name, ("dropout", "decoder_channels")
        )
        for name in BACKBONES
    },
    "deeplabv3_report": Variant(
        DeepLabv3ReportHead, "student report", "resnet50", (), rates=(8, 12, 16)
    ),
}


def model_names() -> list[str]:
    """Return the names of all variants."""
    return list(VARIANTS)


def find_variant(name: str) -> Variant:
    """Return a variant by its name.

    Raises:
        ConfigError: There is no such variant; the message names the nearest ones.
    """
    if name not in VARIANTS:
        raise ConfigError(f"There is no model '{name}'.{did_you_mean(name, VARIANTS)}")
    return VARIANTS[name]


def build_model(name: str, **options: Any) -> Segmenter:
    """Build a variant with new weights.

    Args:
        name: One of `model_names()`.
        **options: Any of these, by name:

            - num_classes (int, 21): Channels of the logits, 1-255.
            - output_stride (int, 16): Picture pixels per cell of the deepest features: 8, 16, 32.
            - atrous_rates (ints, None): Rates of the ASPP in feature cells. None: they follow the
              output stride, (6, 12, 18) at 16, twice that at 8, half of it at 32; for
              deeplabv3_report (8, 12, 16) at 16.
            - norm (str, "batch"): "batch", or "group" for GroupNorm.
            - auxiliary (bool, False): Add the auxiliary head, which only training uses.
            - multi_grid (three ints, (1, 1, 1)): Unit rates of the last stage; ResNets only.
            - dropout (float, 0.5): Dropout after the ASPP's projection.
            - decoder_channels (int, 256): Channels of the decoder; DeepLabv3+ only.

    Returns:
        The model, in training mode, on torch's default device.

    Raises:
        ConfigError: An unknown name, option or value, or an option that the variant has not got.

    Example:
        >>> model = build_model("deeplabv3_resnet18", num_classes=11, output_stride=8)
        >>> model(torch.zeros(2, 3, 65, 97)).shape
        torch.Size([2, 11, 65, 97])
    """
    variant = find_variant(name)
    options = complete_options(name, variant.options, options)
    num_classes, output_stride = options["num_classes"], options["output_stride"]
    backbone_options = {"output_stride": output_stride, "norm": options["norm"]}
    if "multi_grid" in options:
        backbone_options["multi_grid"] = tuple(options["multi_grid"])
    backbone = BACKBONES[variant.backbone](**backbone_options)
    head = variant.head(
        backbone,
        num_classes,
        atrous_rates=options["atrous_rates"] or scale_rates(variant.rates, 16, output_stride),
        norm=options["norm"],
        **{key: options[key] for key in variant.head_options},
    )
    auxiliary_head = None
    if options["auxiliary"]:
        in_channels = backbone.channels[backbone.auxiliary_stage]
        auxiliary_head = FCNHead(in_channels, num_classes, options["norm"])
    return Segmenter(backbone, head, auxiliary_head, name=name, options=options)


def scale_rates(rates: Sequence[int], from_stride: int, to_stride: int) -> list[int]:
    """Return the rates that span the same part of the picture at another output stride."""
    return [max(1, rate * from_stride // to_stride) for rate in rates]


def rebuild_model(model: Segmenter, **changed_options: Any) -> Segmenter:
    """Build the same model with other options and the same weights.

    Args:
        model: Stays as it is; the new model shares its weights in memory.
        **changed_options: Those of `build_model` that leave the weights as they are:
            output_stride, multi_grid, atrous_rates (as many as before) and dropout.

    Raises:
        ConfigError: An option that the variant has not got, or that changes its weights.
    """
    with torch.device("meta"):
        rebuilt = build_model(model.name, **{**model.options, **changed_options})
    try:
        rebuilt.load_state_dict(model.state_dict(), assign=True)
    except RuntimeError as error:
        raise ConfigError(
            f"{model.name} cannot keep its weights with {changed_options}: only output_stride, "
            "multi_grid, atrous_rates (as many as before) and dropout can change after training."
        ) from error
    rebuilt.card = model.card
    return rebuilt.train(model.training)


def set_output_stride(model: Segmenter, output_stride: int) -> Segmenter:
    """Return the same model at another output stride, such as 8 to evaluate what 16 trained.

    The dilations follow, and so do the ASPP's rates: also those given when it was built are scaled
    by the ratio of the strides, so that they span the same part of the picture. The new model
    shares the weights of the old one.

    Raises:
        ConfigError: The output stride is none of 8, 16 and 32.

    Source: Chen et al. 2017, arXiv:1706.05587, section 4.1.
    """
    changed = rebuild_model(model, output_stride=output_stride)
    rates = model.options["atrous_rates"]
    if rates is None:
        return changed
    rates = scale_rates(rates, model.options["output_stride"], output_stride)
    return rebuild_model(changed, atrous_rates=rates)


@dataclass(frozen=True)
class ModelRow:
    """A variant in words and numbers; the parameters are those of 21 classes."""

    name: str
    backbone: str
    paper: str
    num_parameters: int


def describe_models() -> list[ModelRow]:
    """Return a row per variant, without using memory for weights."""
    rows = []
    for name, variant in VARIANTS.items():
        with torch.device("meta"):
            model = build_model(name)
        num_parameters = sum(parameter.numel() for parameter in model.parameters())
        rows.append(ModelRow(name, variant.backbone, variant.paper, num_parameters))
    return rows
