"""Output of the commands: tables, progress bars and JSON files."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.progress import Progress
from rich.table import Table

from atrous.cli.console import Console
from atrous.errors import AtrousError
from atrous.files import write_atomically
from atrous.parsing import escape_controls

STDOUT = Path("-")


def build_table(first: str, *headings: str) -> Table:
    """Build a table without lines: the first column left-aligned, the others right-aligned."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column(first, overflow="fold")
    for heading in headings:
        table.add_column(heading, justify="right", no_wrap=heading == "95 % interval")
    return table


@contextmanager
def show_progress(description: str) -> Iterator[Callable[[int, int], None]]:
    """Show a progress bar on standard error; yields its `progress(done, total)`."""
    with Progress(transient=True, console=Console(stderr=True)) as bar:
        task = bar.add_task(description, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def write_json(values: dict[str, Any], path: Path) -> None:
    """Write values as JSON as `write_text` does."""
    write_text(escape_controls(json.dumps(values, indent=2, ensure_ascii=False)) + "\n", path)


def write_text(text: str, path: Path) -> None:
    """Write text to a file, atomically, or to standard output for `-`.

    Raises:
        AtrousError: The file cannot be written.
    """
    if path == STDOUT:
        print(text, end="")
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, lambda file: file.write(text.encode(errors="backslashreplace")))
    except OSError as error:
        raise AtrousError(
            f"{path} cannot be written: {error.strerror or error}. Free space, or give another "
            "path."
        ) from None
