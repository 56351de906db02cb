"""Reading, checking, overriding, comparing and writing recipes."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import tomli_w
from pydantic import ValidationError

from atrous.errors import ConfigError, did_you_mean
from atrous.parsing import parse_toml
from atrous.recipe.schema import SESSION_KEYS, Recipe

_EXPECTED = {
    "tuple_type": "input should be a list, such as [1, 2]",
    "model_type": "input should be a section with keys of its own",
}
"""Messages for problems whose message by pydantic names Python types."""


def build_recipe(values: Mapping[str, Any]) -> Recipe:
    """Validate nested plain values and fill in the defaults.

    Raises:
        ConfigError: A key is unknown, or a value has the wrong type or is out of range.
    """
    try:
        return Recipe.model_validate(values)
    except ValidationError as error:
        raise ConfigError("The recipe cannot be used: " + " ".join(_explain(error))) from None


def _explain(error: ValidationError) -> Iterable[str]:
    known = set(flatten_values(Recipe().model_dump()))
    for problem in error.errors():
        parts = list(map(str, problem["loc"]))
        if any(part.startswith("literal[") for part in parts):
            continue  # atrous_rates = "fit"; its other form has an error as well
        key = ".".join(part for part in parts if "[" not in part)
        if problem["type"] == "extra_forbidden":
            same = [name for name in known if name.endswith(f".{problem['loc'][-1]}")]
            yield f"there is no key '{key}'." + did_you_mean(same[0] if same else key, known)
        elif problem["type"] == "value_error":
            yield f"{key}: {str(problem['ctx']['error']).removesuffix('.')}."
        else:
            expected = _EXPECTED.get(problem["type"]) or problem["msg"].lower()
            yield f"{key} = {problem['input']!r}: {expected}."


def load_recipe(path: Path) -> Recipe:
    """Read a recipe from a TOML file.

    Raises:
        ConfigError: The file is missing or not TOML, or `build_recipe` rejects its values.
    """
    return build_recipe(load_toml(path))


def load_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file as plain values.

    Raises:
        ConfigError: The file is missing or not TOML.
    """
    try:
        return parse_toml(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"The recipe {path} cannot be read: {error}.") from None
    except ValueError as error:
        raise ConfigError(f"The recipe {path} is not valid TOML: {error}.") from None


def format_recipe(recipe: Recipe) -> str:
    """Return the recipe as TOML with all defaults; unset keys are left out."""
    values = recipe.model_dump(mode="json", exclude_none=True)
    values["model"] = {"name": values["model"].pop("name"), **values["model"]}
    return tomli_w.dumps(values)


def apply_overrides(values: Mapping[str, Any], overrides: Iterable[str]) -> Mapping[str, Any]:
    """Return nested values with `section.key=value` texts applied, each value parsed as TOML.

    A value that is not TOML is a string, and so is every value of a key that takes strings, such
    as 32 for `train.precision`: quotes are optional. So are the brackets of lists, as in
    `train.step_at=5ep,10ep`.

    Raises:
        ConfigError: A text is not of the form `section.key=value`.
    """
    defaults = flatten_values(Recipe().model_dump())
    for text in overrides:
        key, equals, value = text.partition("=")
        key, value = key.strip(), value.strip()
        if not equals or not all(key.partition(".")):
            raise ConfigError(
                f"--set takes section.key=value, such as train.lr=1e-3, not '{text}'."
            )
        try:
            parsed = parse_toml(f"value = {value}")["value"]
        except ValueError:
            parsed = value
        if isinstance(defaults.get(key), str) and not isinstance(parsed, str):
            parsed = value
        elif _takes_list(key, parsed) and not isinstance(parsed, list):
            parsed = _parse_list(value)
        values = set_key(values, key, parsed)
    return values


def _takes_list(key: str, given: Any) -> bool:
    section, _, name = key.partition(".")
    values = Recipe.model_json_schema()["$defs"].get(f"{section.title()}Recipe", {})
    value = values.get("properties", {}).get(name, {})
    kinds = (value, *value.get("anyOf", ()))
    is_word = any("const" in kind and kind["const"] == given for kind in kinds)
    return not is_word and any(kind.get("type") == "array" for kind in kinds)


def _parse_list(text: str) -> list[Any]:
    items = text.strip(" []")
    try:
        return parse_toml(f"value = [{items}]")["value"]
    except ValueError:
        return [item.strip(" \"'") for item in items.split(",") if item.strip()]


def set_key(values: Mapping[str, Any], key: str, value: Any) -> dict[str, Any]:
    """Return nested values in which `section.key` is `value`.

    Raises:
        ConfigError: The section is not a table.
    """
    section, _, name = key.partition(".")
    keys = values.get(section, {})
    if not isinstance(keys, Mapping):
        raise ConfigError(
            f"The recipe has '{section} = {keys!r}' where a section [{section}] was expected."
        )
    return {**values, section: {**keys, name: value}}


def compute_changed_keys(before: Recipe, after: Recipe) -> list[str]:
    """Return `key: old → new` for every changed key that affects the numbers of a run."""
    old, new = flatten_values(before.model_dump()), flatten_values(after.model_dump())
    return [
        f"{key}: {old[key]!r} → {new[key]!r}"
        for key in old
        if old[key] != new[key] and key not in SESSION_KEYS
    ]


def flatten_values(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return nested values as a flat dict with keys of the form `section.key`."""
    return {
        f"{section}.{key}": value for section, keys in values.items() for key, value in keys.items()
    }
