"""Error messages of the command."""

import errno
import os
import sys
from typing import NoReturn

from rich.markup import escape

from atrous.cli.console import Console
from atrous.errors import AtrousError, LayoutError

_NO_MEMORY = (
    "out of memory",
    "not enough memory",
    "allocate memory",
    "alloc_failed",
    "bad_alloc",
    "unable to mmap",
    "failed to map segment",
    "can't start new thread",
)
"""Messages of torch, CUDA, the dynamic linker and Python, in lower case."""

_LOST_PROCESS = ("by peer", "connectfullmesh", "nccl error", "client socket has timed out")
"""Messages of torch.distributed, in lower case."""


def describe_failure(error: BaseException) -> str | None:
    """Return the message for an error that is not a bug, or None.

    These are an `AtrousError`, a lack of memory, open files or disk space, and a lost process of a
    training.
    """
    if isinstance(error, LayoutError):
        from atrous.formats.known import find_format

        if name := find_format(error.root):
            return (
                f"{error.root} looks like an export of the format '{name}', which is not read "
                f"directly: run `atrous import {error.root} OUT` and give the folder OUT instead."
            )
    if isinstance(error, AtrousError):
        return str(error)
    text = (str(error) or type(error).__name__).splitlines()[0][:300]
    number = error.errno if isinstance(error, OSError) else None
    if (
        isinstance(error, MemoryError)
        or number == errno.ENOMEM
        or any(sign in text.lower() for sign in _NO_MEMORY)
    ):
        return (
            f"There is not enough memory: {text}. For training, use a smaller "
            "--batch-size (with --accumulate for the same step), --crop or --size, or fewer "
            "--workers; for evaluation and prediction, use --window 512."
        )
    if number in (errno.EMFILE, errno.ENFILE) or "too many open files" in text.lower():
        return (
            f"Too many files are open at once: {text}. Use fewer --workers, or raise the limit "
            "with `ulimit -n`."
        )
    if number in (errno.ENOSPC, errno.EDQUOT):
        return f"The disk is full: {text}. Free space and run the same command again."
    if "WORLD_SIZE" in os.environ and any(sign in text.lower() for sign in _LOST_PROCESS):
        reason = text.rpartition(".cc:")[2].partition("] ")[2].partition(". ")[0] or text
        return (
            f"The connection to another process of the training is lost: {reason}. The output of "
            "that process says why. Start the same command again on all machines to resume from "
            "the last checkpoint."
        )
    return None


def end_with_error(message: str) -> NoReturn:
    """Print an error message to standard error and exit with code 2."""
    try:
        Console(stderr=True).print(f"[bold red]Error:[/] {escape(message)}")
    except MemoryError:  # handlers at exit would fail too
        os.write(2, f"Error: {message}\n".encode())
        os._exit(2)
    sys.exit(2)
