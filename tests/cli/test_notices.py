import io
import os
import sys
import warnings

import pytest

from atrous.cli.notices import MAX_SHOWN, prepare_output
from atrous.images.image_file import warn


@pytest.fixture
def show(monkeypatch):
    """Return a function that warns with some texts, and gives back what the command prints."""

    def run(texts: list[str]) -> bytes:
        stream = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True)
        monkeypatch.setattr(sys, "stderr", stream)
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            prepare_output()
            for text in texts:
                warn(text)
        return stream.buffer.getvalue()

    return run


def test_warnings_of_files_are_one_line_each_and_few(show):
    texts = [f"file {number}" for number in range(MAX_SHOWN + 10)]
    lines = show([texts[0], *texts]).decode().splitlines()
    expected = [f"Warning: {text}" for text in texts[:MAX_SHOWN]]
    assert lines == [*expected, "Warning: Further warnings are not shown."]


def test_names_of_any_bytes_can_be_printed(show):
    assert show([os.fsdecode(b"stra\xdfe")]) == b"Warning: stra\\udcdfe\n"
