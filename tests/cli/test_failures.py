"""A limit of the machine ends the command with one paragraph; a bug keeps its traceback."""

import errno
import os
import sys
import warnings

import pytest

from atrous.cli import failures, main
from atrous.errors import AtrousWarning


@pytest.fixture
def fail_with(monkeypatch, capsys):
    """Run a command that raises; returns its exit code and what stderr says, on one line."""

    def call(error):
        def app():
            warnings.warn("Something [to] know.", AtrousWarning, stacklevel=1)
            raise error

        monkeypatch.setattr(main, "app", app)
        monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)  # given back at the end
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            with pytest.raises(SystemExit) as ended:
                main.run()
        return ended.value.code, " ".join(capsys.readouterr().err.split())

    return call


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (MemoryError(), "There is not enough memory: MemoryError. For training, use"),
        (RuntimeError("CUDA out of memory. Tried to allocate"), "--batch-size"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you"), "There is not enough"),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), "There is not enough memory"),
        (RuntimeError("can't start new thread"), "There is not enough memory"),
        (OSError(errno.EMFILE, "Too many open files", "a.png"), "`ulimit -n`"),
        (OSError(errno.ENOSPC, "No space left on device"), "The disk is full"),
    ],
)
def test_a_limit_of_the_machine_is_one_paragraph(fail_with, error, message):
    code, output = fail_with(error)
    assert code == 2
    assert output.startswith("Warning: Something [to] know. Error: ")
    assert message in output


def test_without_memory_for_a_formatted_message_it_is_plain(monkeypatch, capfd):
    def refuse(*arguments, **options):
        raise MemoryError

    monkeypatch.setattr(failures, "Console", refuse)
    monkeypatch.setattr(os, "_exit", sys.exit)
    with pytest.raises(SystemExit) as ended:
        failures.end_with_error("There is not enough memory.")
    assert ended.value.code == 2
    assert capfd.readouterr().err == "Error: There is not enough memory.\n"


def test_a_bug_keeps_its_traceback(monkeypatch):
    def app():
        raise RuntimeError("a bug")

    monkeypatch.setattr(main, "app", app)
    monkeypatch.setattr(sys, "argv", ["atrous"])
    with pytest.raises(RuntimeError, match="a bug"):
        main.run()
