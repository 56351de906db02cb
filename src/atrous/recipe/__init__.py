"""Recipes: all settings of one training as frozen plain data, and their TOML files."""

from atrous.recipe.recipe_file import (
    apply_overrides,
    build_recipe,
    compute_changed_keys,
    flatten_values,
    format_recipe,
    load_recipe,
    load_toml,
    set_key,
)
from atrous.recipe.schema import DataRecipe, LossRecipe, ModelRecipe, Recipe, TrainRecipe

__all__ = [
    "DataRecipe",
    "LossRecipe",
    "ModelRecipe",
    "Recipe",
    "TrainRecipe",
    "apply_overrides",
    "build_recipe",
    "compute_changed_keys",
    "flatten_values",
    "format_recipe",
    "load_recipe",
    "load_toml",
    "set_key",
]
