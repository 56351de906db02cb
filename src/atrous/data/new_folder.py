"""Folders that appear when they are complete."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from atrous.errors import DataError


@contextmanager
def replace_folder(
    out: Path, problem: str | None = None, advice: str = "Give another folder, or free space."
) -> Iterator[Path]:
    """Provide a folder that becomes `out`, missing or empty, at the end of the block.

    If the block raises, nothing of it remains.

    Raises:
        DataError: The folder cannot be written; `problem` and `advice` are the message.
    """
    partial = out.resolve().with_name(f".{out.resolve().name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir(parents=True)
        yield partial
        if out.exists():
            out.rmdir()
        partial.rename(out)
    except OSError as error:
        text = problem or f"{out} cannot be written"
        raise DataError(f"{text}: {error}. {advice}") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
