"""Parsing of untrusted text: JSON, TOML and control characters."""

import json
import re
import tomllib
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
    try:
        return _check_depth(json.loads(text))
    except RecursionError:
        raise _too_deep() from None


def parse_toml(text: str) -> dict[str, Any]:
    """Parse TOML as plain values.

    Raises:
        ValueError: The text is not TOML, or nested deeper than `MAX_DEPTH`.
    """
    try:
        values = tomllib.loads(text)
    except RecursionError:
        raise _too_deep() from None
    _check_depth(values)
    return values


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


def _check_depth(values: Any) -> Any:
    level, depth = [values], 0
    while level := [value for value in level if isinstance(value, dict | list)]:
        depth += 1
        if depth > MAX_DEPTH:
            raise _too_deep()
        level = [
            child
            for value in level
            for child in (value.values() if isinstance(value, dict) else value)
        ]
    return values


def _too_deep() -> ValueError:
    return ValueError(f"its values are nested deeper than {MAX_DEPTH} levels")
