"""The options that a model is built with: defaults, and what each may be."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from atrous.errors import ConfigError, did_you_mean


@dataclass(frozen=True)
class Option:
    """An option of a model.

    Attributes:
        default: Its value where none is given.
        expected: What it may be, in words.
        accepts: Whether it may be this value.
    """

    default: Any
    expected: str
    accepts: Callable[[Any], bool]


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _are_counts(values: Any) -> bool:
    return isinstance(values, list | tuple) and len(values) > 0 and all(map(_is_count, values))


OPTIONS: dict[str, Option] = {
    "num_classes": Option(
        21, "a whole number from 1 to 255", lambda value: _is_count(value) and value <= 255
    ),
    "in_channels": Option(3, "a whole number of at least 1", _is_count),
    "output_stride": Option(
        16, "8, 16 or 32", lambda value: _is_count(value) and value in (8, 16, 32, 64, 128, 256)
    ),
    "cascade_blocks": Option(
        None,
        "4, 5, 6 or 7, or nothing (an ASPP instead)",
        lambda value: value is None or (_is_count(value) and 4 <= value <= 7),
    ),
    "multi_grid": Option(
        (1, 1, 1),
        "three whole numbers of at least 1",
        lambda value: _are_counts(value) and len(value) == 3,
    ),
    "atrous_rates": Option(
        None,
        "whole numbers of at least 1, or nothing (they follow the output stride)",
        lambda value: value is None or _are_counts(value),
    ),
    "auxiliary": Option(False, "true or false", lambda value: isinstance(value, bool)),
    "norm": Option("batch", "'batch' or 'group'", lambda value: value in ("batch", "group")),
    "dropout": Option(
        0.5,
        "a number from 0 to below 1",
        lambda value: isinstance(value, int | float) and 0 <= value < 1,
    ),
    "decoder_channels": Option(256, "a whole number of at least 1", _is_count),
    "separable": Option(False, "true or false", lambda value: isinstance(value, bool)),
}


def complete_options(
    model: str, known: Iterable[str], options: Mapping[str, Any]
) -> dict[str, Any]:
    """Check the options given for a model and fill in the others.

    Args:
        model: Name of the model, for messages.
        known: The options that it has.
        options: Those that were given. One that the model has not got passes with its default.

    Returns:
        All options of the model, as values that JSON can hold.

    Raises:
        ConfigError: An option that is unknown or that the model has not got, a bad value, or
            values that do not go together.
    """
    known = list(known)
    for key, value in options.items():
        if key not in OPTIONS:
            raise ConfigError(f"There is no model option '{key}'.{did_you_mean(key, OPTIONS)}")
        option = OPTIONS[key]
        if not option.accepts(value):
            raise ConfigError(f"Model option '{key}' must be {option.expected}, got {value!r}.")
        if key not in known and _to_json(value) != _to_json(option.default):
            raise ConfigError(f"{model} has no option '{key}'. It has: {', '.join(known)}.")
    complete = {key: _to_json(options.get(key, OPTIONS[key].default)) for key in known}
    _check_together(complete)
    return complete


def _check_together(options: Mapping[str, Any]) -> None:
    output_stride, cascade_blocks = options.get("output_stride", 8), options.get("cascade_blocks")
    if cascade_blocks is None:
        if output_stride > 32:
            raise ConfigError(
                f"Model option 'output_stride' must be 8, 16 or 32, got {output_stride}: only "
                "DeepLabv3 with cascade_blocks 5, 6 or 7 reaches 64, 128 or 256."
            )
        return
    if output_stride > 2 ** (cascade_blocks + 1):
        raise ConfigError(
            f"Model option 'output_stride' must be 8 to {2 ** (cascade_blocks + 1)} with "
            f"cascade_blocks={cascade_blocks}, got {output_stride}: each block past the fourth "
            "halves the resolution once."
        )
    if options["atrous_rates"] is not None:
        raise ConfigError(
            f"Model options 'atrous_rates' ({options['atrous_rates']}) and 'cascade_blocks' "
            f"({cascade_blocks}) exclude each other: the rates are those of the ASPP, which the "
            "cascade replaces. Leave one of them out."
        )


def _to_json(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
