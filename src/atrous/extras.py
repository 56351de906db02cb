"""Imports and versions of optional packages, which extras such as `atrous[export]` install."""

from collections.abc import Iterable
from contextlib import suppress
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from atrous.errors import ConfigError


def import_extra(module: str, extra: str) -> Any:
    """Import a module of an optional package.

    Raises:
        ConfigError: The import fails; the message names the package and the extra.
    """
    try:
        return import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        raise ConfigError(
            f"This needs the package {package}, which cannot be imported ({error}). Install it "
            f"with: pip install 'atrous[{extra}]'"
        ) from error


def find_versions(packages: Iterable[str]) -> dict[str, str]:
    """Return the versions of those packages that are installed."""
    versions = {}
    for package in packages:
        with suppress(PackageNotFoundError):
            versions[package] = version(package)
    return versions
