"""Output streams and warnings of the command."""

import sys
import warnings
from typing import Any

from rich.markup import escape

from atrous.cli.console import Console
from atrous.errors import AtrousWarning

MAX_SHOWN = 5
"""Maximum number of printed warnings."""


def prepare_output() -> None:
    """Accept file names of any bytes, and print each `AtrousWarning` once, as one line."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # names may not be UTF-8
    for text in ("Corrupt EXIF data", "Truncated File Read"):  # atrous warns with the name
        warnings.filterwarnings("ignore", text, module="PIL")
    warnings.showwarning = _build_printer(warnings.showwarning)


def _build_printer(show_other: Any) -> Any:
    shown: set[str] = set()

    def show(message: Warning | str, category: type[Warning], *where: Any, **more: Any) -> None:
        text = str(message)
        if not issubclass(category, AtrousWarning):
            show_other(message, category, *where, **more)
        elif text not in shown and len(shown) <= MAX_SHOWN:
            text = text if len(shown) < MAX_SHOWN else "Further warnings are not shown."
            shown.add(str(message))
            sys.stdout.flush()
            Console(stderr=True).print(f"[yellow]Warning:[/] {escape(text)}")

    return show
