"""Lazy imports of the names of a package (PEP 562)."""

import sys
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any


def import_lazily(
    package: str, names: Mapping[str, Sequence[str]]
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Return the `__getattr__` and `__dir__` of a package that imports its names on first use.

    Args:
        names: Public names of the package by the module that defines them.

    Example:
        >>> __getattr__, __dir__ = import_lazily(__name__, {"atrous.models.zoo": ["build_model"]})
    """
    module_of = {name: module for module, group in names.items() for name in group}

    def load(name: str) -> Any:
        if name not in module_of:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(import_module(module_of[name]), name)

    def list_names() -> list[str]:
        return sorted({*vars(sys.modules[package]), *module_of})

    return load, list_names
