"""The table of all variants, and how they are built."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import nn

from atrous.errors import ConfigError, did_you_mean
from atrous.model_options import complete_options, document_options
from atrous.models.deeplabv3 import build_deeplabv3_head
from atrous.models.deeplabv3_report import DeepLabv3ReportHead
from atrous.models.deeplabv3plus import DeepLabv3PlusHead
from atrous.models.fcn import FCNHead
from atrous.models.interfaces import Backbone
from atrous.models.mobilenet import MobileNetV3Large
from atrous.models.pspnet import PSPNetHead
from atrous.models.resnet import ResNet
from atrous.models.segmenter import Segmenter
from atrous.models.segnet import SegNetHead
from atrous.models.unet import UNetEncoder, UNetHead, UNetResNetHead
from atrous.models.vgg import VGG16
from atrous.models.xception import Xception65


@dataclass(frozen=True)
class Part:
    """A backbone or a head.

    Attributes:
        build: Makes it; a backbone takes `in_channels`, a head the backbone and `num_classes`
            first, and both take `norm` and the options, by name.
        options: Those of `build_model` that it takes beside these.
        paper: Where it is described; of a head.
    """

    build: Callable[..., nn.Module]
    options: tuple[str, ...]
    paper: str = ""


BACKBONES: dict[str, Part] = {
    **{
        f"resnet{depth}": Part(partial(ResNet, depth), ("output_stride", "multi_grid"))
        for depth in (18, 34, 50, 101)
    },
    "mobilenet_v3_large": Part(MobileNetV3Large, ("output_stride",)),
    "xception65": Part(Xception65, ("output_stride",)),
    "vgg16_bn": Part(VGG16, ("dropout",)),
    "unet": Part(UNetEncoder, ()),
}
# Those that all atrous systems are offered on; Xception has published weights nowhere that we read.
ATROUS_BACKBONES = ("resnet18", "resnet34", "resnet50", "resnet101", "mobilenet_v3_large")

DEEPLABV3 = Part(
    build_deeplabv3_head, ("atrous_rates", "output_stride", "dropout"), "arXiv:1706.05587"
)
DEEPLABV3_RESNET = Part(
    build_deeplabv3_head, (*DEEPLABV3.options, "cascade_blocks", "multi_grid"), DEEPLABV3.paper
)
DEEPLABV3PLUS = Part(
    DeepLabv3PlusHead,
    ("atrous_rates", "dropout", "decoder_channels", "separable"),
    "arXiv:1802.02611",
)
REPORT = Part(DeepLabv3ReportHead, ("atrous_rates",), "student report")
FCN = Part(FCNHead, (), "arXiv:1411.4038")
PSPNET = Part(PSPNetHead, (), "arXiv:1612.01105")
UNET = Part(UNetHead, ("dropout",), "arXiv:1505.04597")
UNET_RESNET = Part(UNetResNetHead, (), "arXiv:1505.04597")
SEGNET = Part(SegNetHead, ("dropout",), "arXiv:1511.00561")
BAYESIAN_SEGNET = Part(SegNetHead, ("dropout",), "arXiv:1511.02680")


@dataclass(frozen=True)
class Variant:
    """A line of the table: a head on a backbone.

    Attributes:
        head: The head.
        backbone: Name of the backbone.
        rates: ASPP rates at output stride 16, where none are given.
        fixed: Options of the parts that the variant sets itself and does not offer.
        auxiliary: Whether it can have an auxiliary head.
    """

    head: Part
    backbone: str
    rates: tuple[int, int, int] = (6, 12, 18)
    fixed: Mapping[str, Any] = field(default_factory=dict)
    auxiliary: bool = True

    @property
    def options(self) -> tuple[str, ...]:
        """Names of all options of the variant."""
        names = ["num_classes", "in_channels", "norm"]
        names += ["auxiliary"] if self.auxiliary else []
        names += [*BACKBONES[self.backbone].options, *self.head.options]
        return tuple(name for name in dict.fromkeys(names) if name not in self.fixed)


def _on_atrous_backbones(system: str, head: Part) -> dict[str, Variant]:
    return {f"{system}_{backbone}": Variant(head, backbone) for backbone in ATROUS_BACKBONES}


VARIANTS: dict[str, Variant] = {
    **_on_atrous_backbones("deeplabv3", DEEPLABV3_RESNET),
    "deeplabv3_mobilenet_v3_large": Variant(DEEPLABV3, "mobilenet_v3_large"),
    **_on_atrous_backbones("deeplabv3plus", DEEPLABV3PLUS),
    "deeplabv3plus_xception65": Variant(DEEPLABV3PLUS, "xception65"),
    "deeplabv3_report": Variant(REPORT, "resnet50", rates=(8, 12, 16)),
    **_on_atrous_backbones("pspnet", PSPNET),
    **_on_atrous_backbones("fcn", FCN),
    "unet": Variant(UNET, "unet", auxiliary=False),
    "unet_resnet34": Variant(
        UNET_RESNET,
        "resnet34",
        fixed={"output_stride": 32, "multi_grid": (1, 1, 1)},
        auxiliary=False,
    ),
    "segnet": Variant(SEGNET, "vgg16_bn", fixed={"dropout": 0.0}, auxiliary=False),
    "bayesian_segnet": Variant(BAYESIAN_SEGNET, "vgg16_bn", auxiliary=False),
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
    """Build a variant with random weights.

    Args:
        name: One of `model_names()`.
        **options: Options of the variant, by name:

            {options}

    Returns:
        The model, in training mode, on torch's default device.

    Raises:
        ConfigError: An unknown name or option, an invalid value, or an option that the variant
            does not have.

    Example:
        >>> model = build_model("deeplabv3_resnet18", num_classes=11, output_stride=8)
        >>> model(torch.zeros(2, 3, 65, 97)).shape
        torch.Size([2, 11, 65, 97])
    """
    variant = find_variant(name)
    options = complete_options(name, variant.options, options)
    values = {**options, **variant.fixed}
    if "atrous_rates" in options and options["atrous_rates"] is None:
        values["atrous_rates"] = scale_rates(variant.rates, 16, options["output_stride"])

    def take(part: Part) -> dict[str, Any]:
        return {key: values[key] for key in ("norm", *part.options)}

    backbone_part = BACKBONES[variant.backbone]
    backbone = backbone_part.build(in_channels=options["in_channels"], **take(backbone_part))
    assert isinstance(backbone, Backbone)
    head = variant.head.build(backbone, options["num_classes"], **take(variant.head))
    auxiliary_head = None
    if options.get("auxiliary"):
        auxiliary_head = FCNHead(
            backbone, options["num_classes"], norm=options["norm"], stage=backbone.auxiliary_stage
        )
    return Segmenter(backbone, head, auxiliary_head, name=name, options=options)


build_model.__doc__ = inspect.cleandoc(build_model.__doc__ or "").replace(
    "{options}", document_options(8).lstrip()
)


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


def set_output_stride(model: Segmenter, output_stride: int | None) -> Segmenter:
    """Return the same model at another output stride, such as 8 to evaluate what 16 trained.

    The dilations follow, and so do the ASPP's rates: also those given when it was built are scaled
    by the ratio of the strides, so that they span the same part of the picture. The new model
    shares the weights of the old one; at the stride that it has (None where there is none to
    choose), the model is returned as it is.

    Raises:
        ConfigError: The output stride is none of 8, 16 and 32 (to 256 in a cascade), or the model
            has none to choose.

    Source: Chen et al. 2017, arXiv:1706.05587, section 4.1.
    """
    if output_stride == model.options.get("output_stride"):
        return model
    if "output_stride" not in model.options:
        raise ConfigError(
            f"{model.name} has no output stride to choose, got {output_stride}: its decoder comes "
            "back to the picture's size. Leave the output stride out."
        )
    changed = rebuild_model(model, output_stride=output_stride)
    rates = model.options.get("atrous_rates")
    if rates is None:
        return changed
    rates = scale_rates(rates, model.options["output_stride"], changed.options["output_stride"])
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
        rows.append(ModelRow(name, variant.backbone, variant.head.paper, num_parameters))
    return rows
