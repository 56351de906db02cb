"""Options of models, for recipes, `build_model` and its documentation."""

import textwrap
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from atrous.errors import ConfigError, did_you_mean

DEFAULT_SYSTEM = "deeplabv3plus"

Positive = Annotated[int, Field(ge=1)]


class ModelOptions(BaseModel):
    """Model options that a recipe can set; the field descriptions are their documentation."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, strict=True)

    output_stride: int = Field(
        16,
        description="Image pixels per cell of the last feature map: 8, 16 or 32; with "
        "cascade_blocks up to 256. Not in U-Net and SegNet.",
    )
    cascade_blocks: int | None = Field(
        None,
        ge=4,
        le=7,
        description="Last block of the cascade: 4, 5, 6 or 7; 4 adds none to the dilated ResNet. "
        "None: an ASPP instead. DeepLabv3 on ResNets only.",
    )
    multi_grid: tuple[Positive, Positive, Positive] = Field(
        (1, 1, 1),
        strict=False,
        description="Unit rates of the blocks of the last stage (arXiv:1706.05587, section "
        "3.1.1): three whole numbers of at least 1. ResNets only.",
    )
    atrous_rates: (
        Annotated[tuple[Positive, ...], Field(min_length=1, strict=False)] | Literal["fit"] | None
    ) = Field(
        None,
        description="Rates of the ASPP in feature cells: whole numbers of at least 1. None: "
        "(6, 12, 18) at output stride 16, doubled at 8, halved at 32; for deeplabv3_report "
        "(8, 12, 16) at 16. 'fit', in a recipe only: rates with as many valid taps on the training "
        "images as those have at 513 pixels.",
    )
    auxiliary: bool = Field(
        False,
        description="Add an auxiliary head, which is only used in training: true or false. Not in "
        "U-Net and SegNet.",
    )
    norm: Literal["batch", "group"] = Field(
        "batch",
        description="Normalization layer: 'batch', or 'group' for GroupNorm with 32 groups, which "
        "does not depend on the batch size.",
    )
    dropout: float = Field(
        0.5,
        ge=0,
        lt=1,
        description="Dropout probability, from 0 to below 1: before the classifier (ASPP and "
        "cascade), at the end of U-Net's contracting path, or inside Bayesian SegNet.",
    )
    decoder_channels: Positive = Field(
        256,
        description="Channels of the decoder: a whole number of at least 1. DeepLabv3+ only.",
    )
    separable: bool = Field(
        False,
        description="Use depthwise separable 3x3 convolutions in ASPP and decoder: true or false. "
        "DeepLabv3+ only.",
    )

    @model_validator(mode="after")
    def _check_together(self) -> Self:
        max_stride = 2 ** ((self.cascade_blocks or 4) + 1)
        strides = [str(2**power) for power in range(3, max_stride.bit_length())]
        if str(self.output_stride) not in strides:
            cascade = f" with cascade_blocks={self.cascade_blocks}" if self.cascade_blocks else ""
            raise ValueError(
                f"output_stride{cascade} must be {', '.join(strides[:-1])} or {strides[-1]}, got "
                f"{self.output_stride}; only DeepLabv3 with cascade_blocks 5, 6 or 7 reaches 64, "
                "128 or 256"
            )
        if self.cascade_blocks is not None and self.atrous_rates is not None:
            raise ValueError(
                f"atrous_rates ({self.atrous_rates}) and cascade_blocks ({self.cascade_blocks}) "
                "exclude each other: the cascade replaces the ASPP, to which the rates belong. "
                "Remove one of them"
            )
        return self


class BuildOptions(ModelOptions):
    """All options of `build_model`, including those that depend on the data."""

    num_classes: int = Field(
        21, ge=1, le=255, description="Channels of the logits: a whole number from 1 to 255."
    )
    in_channels: Positive = Field(
        3, description="Channels of the image: a whole number of at least 1."
    )


def complete_options(
    model: str, known: Iterable[str], options: Mapping[str, Any]
) -> dict[str, Any]:
    """Validate the options of a variant and fill in defaults.

    Args:
        options: Given options. One that the variant does not have must equal its default.

    Returns:
        All options of the variant as JSON values.

    Raises:
        ConfigError: An option is unknown, has an invalid value, conflicts with another one, or does
            not exist for the variant.
    """
    known = list(known)
    try:
        values = BuildOptions.model_validate(dict(options)).model_dump(mode="json")
    except ValidationError as error:
        raise ConfigError(_explain(error, options)) from None
    defaults = BuildOptions().model_dump(mode="json")
    for key in options:
        if key not in known and values[key] != defaults[key]:
            raise ConfigError(f"{model} has no option '{key}'. Its options: {', '.join(known)}.")
    return {key: values[key] for key in known}


def _explain(error: ValidationError, options: Mapping[str, Any]) -> str:
    problem = error.errors()[0]
    if problem["type"] == "value_error":
        return f"The model options do not fit together: {problem['ctx']['error']}."
    key, fields = str(problem["loc"][0]), BuildOptions.model_fields
    if problem["type"] == "extra_forbidden":
        return f"There is no model option '{key}'.{did_you_mean(key, fields)}"
    return f"Model option '{key}' cannot be {options[key]!r}. {fields[key].description}"


def document_options(indent: int) -> str:
    """Return the options of `build_model` as the lines of a docstring's list."""
    lines = [
        textwrap.fill(
            f"- {name} (default {field.default!r}): {field.description}",
            width=100,
            initial_indent=" " * indent,
            subsequent_indent=" " * (indent + 2),
        )
        for name, field in BuildOptions.model_fields.items()
    ]
    return "\n".join(lines)
