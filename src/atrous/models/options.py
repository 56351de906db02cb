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
    "output_stride": Option(
        16, "8, 16 or 32", lambda value: _is_count(value) and value in (8, 16, 32)
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
        ConfigError: An option that is unknown or that the model has not got, or a bad value.
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
    return {key: _to_json(options.get(key, OPTIONS[key].default)) for key in known}


def _to_json(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
