import json
import re
import tomllib
from pathlib import Path

import pytest

from atrous.errors import ConfigError
from atrous.recipe import (
    Recipe,
    apply_overrides,
    build_recipe,
    compute_changed_keys,
    format_recipe,
    load_recipe,
)

ROOT = Path(__file__).parents[1]
RECIPES = sorted((ROOT / "recipes").glob("*.toml"))


def test_toml_keeps_a_recipe_whole():
    recipe = build_recipe({"data": {"root": "x", "size": 256}, "model": {"multi_grid": [1, 2, 4]}})
    assert build_recipe(tomllib.loads(format_recipe(recipe))) == recipe


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_recipe_loads_and_opens_with_its_command(path):
    load_recipe(path)
    assert path.read_text().startswith("# atrous train"), "a recipe opens with its command"


def test_every_key_has_a_row_with_its_default_in_the_document():
    documented = {}
    for part in (ROOT / "docs/recipes.md").read_text().split("\n## ")[1:]:
        if section := re.match(r"`\[(\w+)\]`\n", part):
            rows = re.findall(r"^\| `(\w+)` \| (.+?) \| .+ \|$", part, flags=re.MULTILINE)
            assert len(rows) == len(dict(rows))
            documented[section[1]] = dict(rows)
    assert documented == {
        section: {
            key: "unset" if value is None else f"`{json.dumps(value)}`"
            for key, value in keys.items()
        }
        for section, keys in Recipe().model_dump(mode="json").items()
    }


@pytest.mark.parametrize("section", Recipe.model_fields)
def test_every_key_has_a_line_in_the_docstring(section):
    kind = Recipe.model_fields[section].annotation
    documented = re.findall(r"^ {8}(\w+): \S", kind.__doc__, flags=re.MULTILINE)
    assert documented == list(kind.__annotations__)


def test_overrides_are_read_as_toml_or_text():
    values = apply_overrides(
        {"train": {"lr": 1.0}}, ["train.lr=2e-3", "data.scale=[1, 2]", "model.name=unet"]
    )
    assert values == {
        "train": {"lr": 2e-3},
        "data": {"scale": [1, 2]},
        "model": {"name": "unet"},
    }


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("train.precision=32", "32"),
        ('train.precision="32"', "32"),
        ("train.precision=bf16", "bf16"),
        ("data.val_split=2012", "2012"),
        ("data.val_split=2024-01-01", "2024-01-01"),
        ("data.root=1e3", "1e3"),
        ("train.step_at=5ep", ("5ep",)),
        ("train.step_at=[5ep, 10ep]", ("5ep", "10ep")),
        ('train.step_at=["5ep"]', ("5ep",)),
        ("data.scale=0.5,2", (0.5, 2.0)),
        ("model.atrous_rates=[6, 12, 18]", (6, 12, 18)),
        ("model.atrous_rates=fit", "fit"),
        ("model.multi_grid=1, 2, 4", (1, 2, 4)),
    ],
)
def test_a_key_that_takes_text_or_a_list_needs_no_quotes(text, value):
    section, _, name = text.partition("=")[0].partition(".")
    recipe = build_recipe(apply_overrides({}, [text]))
    assert getattr(getattr(recipe, section), name) == value


def test_the_precision_of_a_recipe_may_be_a_number():
    assert build_recipe({"train": {"precision": 32}}).train.precision == "32"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"train": {"learning_rate": 1}}, "there is no key 'train.learning_rate'. Did you mean"),
        ({"trian": {}}, "there is no key 'trian'"),
        ({"lr": 0.1}, "there is no key 'lr'. Did you mean 'train.lr'"),
        ({"train": 5}, "train = 5: input should be a section"),
        ({"data": {"scale": 2}}, "data.scale = 2: input should be a list, such as [1, 2]"),
        ({"train": {"lr": -1}}, "train.lr = -1: input should be greater than 0"),
        ({"train": {"duration": "3 weeks"}}, "train.duration: '3 weeks' is not a duration"),
        ({"train": {"schedule": "ploy"}}, "'poly', 'step', 'cosine' or 'constant'"),
        ({"data": {"size": 256, "crop": 256}}, "data.size or data.crop, not both"),
        ({"data": {"scale": [2, 1]}}, "the smaller first"),
        ({"loss": {"cross_entropy": 0}}, "at least one term"),
    ],
)
def test_invalid_values_are_errors(values, message):
    with pytest.raises(ConfigError) as caught:
        build_recipe(values)
    assert message in str(caught.value)


@pytest.mark.parametrize("text", ["lr=1", "train.lr", "=1"])
def test_an_override_needs_section_key_and_value(text):
    with pytest.raises(ConfigError, match=r"--set takes section\.key=value"):
        apply_overrides({}, [text])


def test_a_value_where_a_section_was_expected():
    with pytest.raises(ConfigError, match=r"where a section \[train\] was expected"):
        apply_overrides({"train": 5}, ["train.lr=1"])


def test_changed_keys_exclude_session_keys():
    before = build_recipe({"data": {"root": "a"}})
    after = build_recipe(
        {"data": {"root": "b"}, "train": {"workers": 7, "save_every": "1it", "lr": 1.0}}
    )
    assert compute_changed_keys(before, after) == ["train.lr: 0.0005 → 1.0"]


def test_a_file_that_is_missing_or_not_toml(tmp_path):
    with pytest.raises(ConfigError, match=r"none\.toml cannot be read"):
        load_recipe(tmp_path / "none.toml")
    broken = tmp_path / "broken.toml"
    broken.write_text("[train\n")
    with pytest.raises(ConfigError, match="is not valid TOML"):
        load_recipe(broken)
