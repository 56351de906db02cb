"""Parsing of untrusted text: JSON, TOML and control characters."""

import json
import re
import tomllib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pydantic import ValidationError

MAX_DEPTH = 64
"""Deepest nesting of lists and objects that is accepted in JSON and TOML."""

_CONTROLS = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f"  # all but tab and line feed
    "\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069"  # line separators and marks of text direction
    "\ud800-\udfff]"  # bytes of a file name that are not UTF-8
)


def parse_json(text: str | bytes) -> Any:
    """Parse JSON as plain values.

    Raises:
        ValueError: The text is not JSON, or nested deeper than `MAX_DEPTH`.
    """
    return _parse(json.loads, text)


def parse_toml(text: str) -> dict[str, Any]:
    """Parse TOML as plain values.

    Raises:
        ValueError: The text is not TOML, or nested deeper than `MAX_DEPTH`.
    """
    return _parse(tomllib.loads, text)


def explain_validation(error: "ValidationError") -> str:
    """Return the values that pydantic rejected, in one line: `key = value: reason; …`."""
    problems = []
    for problem in error.errors(include_url=False):
        key = ".".join(map(str, problem["loc"])) or "the whole"
        if problem["type"] == "missing":
            problems.append(f"{key} is missing")
            continue
        value = repr(problem["input"])
        value = value if len(value) <= 60 else f"{value[:59]}…"
        problems.append(f"{key} = {value}: {problem['msg'].removeprefix('Value error, ')}")
    return "; ".join(problems[:5]) + ("; …" if len(problems) > 5 else "")


def escape_controls(text: str) -> str:
    r"""Escape control characters, as in `\u001b`, so that a text is safe on a terminal.

    These are the C0 and C1 controls except tab and line feed, line separators, marks that change
    the text direction, and lone surrogates. JSON keeps its meaning.
    """
    return _CONTROLS.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def is_plain_name(name: str) -> bool:
    """Return whether a name is one line without control characters."""
    return not _CONTROLS.search(name) and "\n" not in name and "\t" not in name


def _parse(parse: Callable[[Any], Any], text: str | bytes) -> Any:
    try:
        values = parse(text)
        level = [values]
        for _ in range(MAX_DEPTH):
            parts = (value for value in level if isinstance(value, dict | list))
            level = [
                child
                for part in parts
                for child in (part.values() if isinstance(part, dict) else part)
            ]
        if any(isinstance(value, dict | list) for value in level):
            raise RecursionError
    except RecursionError:
        raise ValueError(f"its values are nested deeper than {MAX_DEPTH} levels") from None
    return values
