"""What a command found, for programs."""

import json
from pathlib import Path
from typing import Any

from atrous.errors import AtrousError
from atrous.files import write_atomically
from atrous.parsing import escape_controls

STDOUT = Path("-")


def write_json(values: dict[str, Any], path: Path) -> None:
    """Write values as JSON into a file, whole or not at all, or to standard output for `-`.

    Raises:
        AtrousError: The file cannot be written.
    """
    text = escape_controls(json.dumps(values, indent=2, ensure_ascii=False)) + "\n"
    if path == STDOUT:
        print(text, end="")
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, lambda file: file.write(text.encode(errors="backslashreplace")))
    except OSError as error:
        raise AtrousError(
            f"{path} cannot be written: {error.strerror or error}. Free space, or name another "
            "file."
        ) from None
