"""The table of variants, and how they are built."""

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any

from atrous.errors import ConfigError, did_you_mean
from atrous.model_options import complete_options, document_options
from atrous.models.num_parameters import NUM_PARAMETERS

if TYPE_CHECKING:
    from atrous.models.segmenter import Segmenter


@dataclass(frozen=True)
class Component:
    """A backbone or a head.

    Attributes:
        builder: `module:name` of its class or function, which is imported when it is called. It
            takes `first`, then a backbone takes the keyword `in_channels`, a head the backbone and
            `num_classes`; both also take `norm` and the options as keywords.
        options: Its other options of `build_model`.
        paper: Source of a head.
    """

    builder: str
    options: tuple[str, ...] = ()
    paper: str = ""
    first: tuple[Any, ...] = ()

    def build(self, *args: Any, values: Mapping[str, Any], **more: Any) -> Any:
        """Build it with its options among `values`."""
        own = {key: values[key] for key in ("norm", *self.options)}
        return resolve_name(f"atrous.models.{self.builder}")(*self.first, *args, **more, **own)


_STRIDE = ("output_stride",)
BACKBONES: dict[str, Component] = {
    **{
        f"resnet{depth}": Component("resnet:ResNet", (*_STRIDE, "multi_grid"), first=(depth,))
        for depth in (18, 34, 50, 101)
    },
    "mobilenet_v3_large": Component("mobilenet:MobileNetV3Large", _STRIDE),
    **{
        f"efficientnet_lite{number}": Component(
            "efficientnet_lite:EfficientNetLite", _STRIDE, first=(number,)
        )
        for number in (0, 1, 2)
    },
    "xception65": Component("xception:Xception65", _STRIDE),
    "vgg16_bn": Component("vgg:VGG16", ("dropout",)),
    "unet": Component("unet:UNetEncoder"),
}
# Backbones of every atrous system: all with published weights that can be loaded.
RESNETS = ("resnet18", "resnet34", "resnet50", "resnet101")
EFFICIENTNETS = ("efficientnet_lite0", "efficientnet_lite1", "efficientnet_lite2")
ATROUS_BACKBONES = (*RESNETS, "mobilenet_v3_large", *EFFICIENTNETS)

DEEPLABV3 = Component(
    "deeplabv3:build_deeplabv3_head",
    ("atrous_rates", "output_stride", "dropout"),
    "arXiv:1706.05587",
)
DEEPLABV3_RESNET = replace(DEEPLABV3, options=(*DEEPLABV3.options, "cascade_blocks", "multi_grid"))
DEEPLABV3PLUS = Component(
    "deeplabv3plus:DeepLabv3PlusHead",
    ("atrous_rates", "dropout", "decoder_channels", "separable"),
    "arXiv:1802.02611",
)
REPORT = Component("deeplabv3_report:DeepLabv3ReportHead", ("atrous_rates",), "student report")
FCN = Component("fcn:FCNHead", (), "arXiv:1411.4038")
PSPNET = Component("pspnet:PSPNetHead", (), "arXiv:1612.01105")
UNET = Component("unet:UNetHead", ("dropout",), "arXiv:1505.04597")
UNET_BACKBONE = Component("unet:UNetBackboneHead", (), "arXiv:1505.04597")
SEGNET = Component("segnet:SegNetHead", ("dropout",), "arXiv:1511.00561")
BAYESIAN_SEGNET = replace(SEGNET, paper="arXiv:1511.02680")

SYSTEMS = {"deeplabv3": DEEPLABV3, "deeplabv3plus": DEEPLABV3PLUS, "pspnet": PSPNET, "fcn": FCN}
TIMM = "timm/"
"""Prefix of the names of timm's backbones."""


def find_backbone(name: str) -> Component:
    """Return a backbone of `BACKBONES`, or any of timm as `timm/NAME`."""
    if name.startswith(TIMM):
        first = (name.removeprefix(TIMM),)
        return Component("timm_backbone:TimmBackbone", _STRIDE, first=first)
    return BACKBONES[name]


@dataclass(frozen=True)
class Variant:
    """A row of the table: a head on a backbone.

    Attributes:
        rates: Default ASPP rates at output stride 16.
        fixed: Options of the components with fixed values, which the variant does not have.
    """

    head: Component
    backbone: str
    rates: tuple[int, int, int] = (6, 12, 18)
    fixed: Mapping[str, Any] = field(default_factory=dict)
    auxiliary: bool = True

    @property
    def options(self) -> tuple[str, ...]:
        """Names of the variant's options."""
        names = ["num_classes", "in_channels", "norm"]
        names += ["auxiliary"] if self.auxiliary else []
        names += [*find_backbone(self.backbone).options, *self.head.options]
        return tuple(name for name in dict.fromkeys(names) if name not in self.fixed)


def _on_atrous_backbones(system: str) -> dict[str, Variant]:
    return {
        f"{system}_{backbone}": Variant(SYSTEMS[system], backbone) for backbone in ATROUS_BACKBONES
    }


def _unet_on(backbone: str) -> Variant:
    fixed = {"output_stride": 32, "multi_grid": (1, 1, 1)}
    return Variant(UNET_BACKBONE, backbone, fixed=fixed, auxiliary=False)


VARIANTS: dict[str, Variant] = {
    **_on_atrous_backbones("deeplabv3"),
    **{f"deeplabv3_{resnet}": Variant(DEEPLABV3_RESNET, resnet) for resnet in RESNETS},
    **_on_atrous_backbones("deeplabv3plus"),
    "deeplabv3plus_xception65": Variant(DEEPLABV3PLUS, "xception65"),
    "deeplabv3_report": Variant(REPORT, "resnet50", rates=(8, 12, 16)),
    **_on_atrous_backbones("pspnet"),
    **_on_atrous_backbones("fcn"),
    "unet": Variant(UNET, "unet", auxiliary=False),
    **{f"unet_{backbone}": _unet_on(backbone) for backbone in ("resnet34", *EFFICIENTNETS)},
    "segnet": Variant(SEGNET, "vgg16_bn", fixed={"dropout": 0.0}, auxiliary=False),
    "bayesian_segnet": Variant(BAYESIAN_SEGNET, "vgg16_bn", auxiliary=False),
}


def model_names() -> list[str]:
    """Return the names of all variants."""
    return list(VARIANTS)


def find_variant(name: str) -> Variant:
    """Return a variant by name: one of the table, or a system on a backbone of timm.

    Raises:
        ConfigError: There is no such variant; the message suggests similar names.
    """
    system, separator, backbone = name.partition(f"_{TIMM}")
    if not separator:
        if name not in VARIANTS:
            raise ConfigError(f"There is no model '{name}'.{did_you_mean(name, VARIANTS)}")
        return VARIANTS[name]
    if system == "unet":
        return _unet_on(TIMM + backbone)
    if system not in SYSTEMS:
        known = ", ".join([*SYSTEMS, "unet"])
        raise ConfigError(f"'{system}' does not take a backbone of timm; these do: {known}.")
    return Variant(SYSTEMS[system], TIMM + backbone)


def build_model(name: str, **options: Any) -> "Segmenter":
    """Build a variant with random weights.

    Args:
        name: One of `model_names()`, or `SYSTEM_timm/NAME` with a backbone of timm, such as
            `deeplabv3plus_timm/convnext_tiny.fb_in22k`.
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
    from atrous.models.segmenter import Segmenter

    variant = find_variant(name)
    options = complete_options(name, variant.options, options)
    values = {**options, **variant.fixed}
    if options.get("atrous_rates") == "fit":
        raise ConfigError(
            "atrous_rates = 'fit' needs the size of the training images, which a recipe knows. "
            "Give the rates of atrous.models.untrained_taps.fit_rates."
        )
    if "atrous_rates" in options and options["atrous_rates"] is None:
        values["atrous_rates"] = scale_rates(variant.rates, 16, options["output_stride"])

    num_classes, in_channels = options["num_classes"], options["in_channels"]
    backbone = find_backbone(variant.backbone).build(in_channels=in_channels, values=values)
    head = variant.head.build(backbone, num_classes, values=values)
    auxiliary_head = None
    if options.get("auxiliary"):
        stage = backbone.auxiliary_stage
        auxiliary_head = FCN.build(backbone, num_classes, values=values, stage=stage)
    return Segmenter(backbone, head, auxiliary_head, name=name, options=options)


build_model.__doc__ = inspect.cleandoc(build_model.__doc__ or "").replace(
    "{options}", document_options(8).lstrip()
)


def scale_rates(rates: Sequence[int], from_stride: int, to_stride: int) -> list[int]:
    """Return the rates that cover the same part of the image at another output stride."""
    return [max(1, rate * from_stride // to_stride) for rate in rates]


def rebuild_model(model: "Segmenter", **changed_options: Any) -> "Segmenter":
    """Build a model with other options and the same weights.

    Args:
        model: The model; it is not changed, and the new model shares its weights in memory.
        **changed_options: Options of `build_model` that do not change the shapes of weights:
            output_stride, multi_grid, atrous_rates (of the same number) and dropout.

    Raises:
        ConfigError: The variant does not have an option, or an option changes shapes of weights.
    """
    from atrous.models.layers import on_meta_device

    with on_meta_device():
        rebuilt = build_model(model.name, **{**model.options, **changed_options})
    try:
        rebuilt.load_state_dict(model.state_dict(), assign=True)
    except RuntimeError as error:
        raise ConfigError(
            f"{model.name} cannot keep its weights with {changed_options}: only output_stride, "
            "multi_grid, atrous_rates (the same number) and dropout can change after training."
        ) from error
    rebuilt.card = model.card
    return rebuilt.train(model.training)


def set_output_stride(model: "Segmenter", output_stride: int | None) -> "Segmenter":
    """Return a model at another output stride, for example 8 to evaluate a model trained at 16.

    Dilations and ASPP rates, also given ones, are scaled by the ratio of the strides, so that they
    cover the same part of the image. The new model shares the weights of the old one. The model
    itself is returned if it already has the output stride (None for models without the option).

    Raises:
        ConfigError: The output stride is not 8, 16 or 32 (up to 256 in a cascade), or the model
            does not have the option.

    Source: Chen et al. 2017, arXiv:1706.05587, section 4.1.
    """
    if output_stride == model.options.get("output_stride"):
        return model
    if "output_stride" not in model.options:
        raise ConfigError(
            f"{model.name} has no option output_stride, got {output_stride}: its decoder returns "
            "to the size of the image. Remove the output stride."
        )
    changed = rebuild_model(model, output_stride=output_stride)
    if (rates := model.options.get("atrous_rates")) is None:
        return changed
    rates = scale_rates(rates, model.options["output_stride"], changed.options["output_stride"])
    return rebuild_model(changed, atrous_rates=rates)


@dataclass(frozen=True)
class ModelRow:
    """A variant and its number of parameters with 21 classes."""

    name: str
    paper: str
    num_parameters: int


def describe_models() -> list[ModelRow]:
    """Describe all variants, without building one."""
    return [
        ModelRow(name, variant.head.paper, NUM_PARAMETERS[name])
        for name, variant in VARIANTS.items()
    ]
