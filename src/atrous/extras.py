"""Packages that only some features need, installed with an extra such as `atrous[export]`."""

from importlib import import_module
from typing import Any

from atrous.errors import ConfigError


def import_extra(module: str, extra: str) -> Any:
    """Import a module of an optional package.

    Raises:
        ConfigError: It cannot be imported; the message names the package and the extra.
    """
    try:
        return import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        raise ConfigError(
            f"This needs the package {package}, which cannot be imported here ({error}). Install "
            f"it with: pip install 'atrous[{extra}]'"
        ) from error
