"""Where everything is printed that a person reads."""

from typing import Any

import rich.console
from rich.text import Text

from atrous.parsing import escape_controls


class Console(rich.console.Console):
    """A console for texts with names that strangers chose: their control characters are escaped.

    Args:
        stderr: Print to standard error.
        soft_wrap: Leave long lines to the terminal.
    """

    def __init__(self, *, stderr: bool = False, soft_wrap: bool = False) -> None:
        super().__init__(stderr=stderr, soft_wrap=soft_wrap, emoji=False)

    def render_str(self, text: str, **options: Any) -> Text:
        """Turn what is to be printed into Rich's text, without control characters."""
        return super().render_str(escape_controls(text), **options)
