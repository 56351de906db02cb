"""The console of all commands."""

from typing import Any

import rich.console
from rich.text import Text

from atrous.parsing import escape_controls


class Console(rich.console.Console):
    """A console without emoji and highlights that escapes the control characters of names."""

    def __init__(self, *, stderr: bool = False, soft_wrap: bool = False) -> None:
        super().__init__(stderr=stderr, soft_wrap=soft_wrap, emoji=False)

    def render_str(self, text: str, **options: Any) -> Text:
        """Return a text for Rich without control characters."""
        return super().render_str(escape_controls(text), **options)
