"""What the command prints: names of any bytes, and warnings as one line each."""

import sys
import warnings
from typing import Any

from rich.markup import escape

from atrous.cli.console import Console
from atrous.errors import AtrousWarning

MAX_SHOWN = 5
"""Warnings of files that are printed; a dataset can hold thousands of the like."""


def prepare_output() -> None:
    """Let no file name break the output, and print `AtrousWarning`s plainly, each once."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # of names that are no UTF-8
    for text in ("Corrupt EXIF data", "Truncated File Read"):  # atrous says so, with the file
        warnings.filterwarnings("ignore", text, module="PIL")
    warnings.showwarning = _build_printer(warnings.showwarning)


def _build_printer(show_other: Any) -> Any:
    shown: set[str] = set()

    def show(message: Warning | str, category: type[Warning], *where: Any, **more: Any) -> None:
        text = str(message)
        if not issubclass(category, AtrousWarning):
            show_other(message, category, *where, **more)
        elif text not in shown and len(shown) <= MAX_SHOWN:
            text = text if len(shown) < MAX_SHOWN else "More of the like is not shown."
            shown.add(str(message))
            sys.stdout.flush()
            Console(stderr=True).print(f"[yellow]Warning:[/] {escape(text)}", highlight=False)

    return show
