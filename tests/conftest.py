"""Shared by all tests: the command, where the real data is, a model with known predictions."""

import itertools
import os
import re
import shutil
import sys
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
from torch import nn

from atrous.classes import build_classes
from atrous.cli.main import run
from atrous.models import ModelCard, Segmenter

torch.set_num_threads(min(2, torch.get_num_threads()))


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of the real data sets; the test is skipped on a machine that has none."""
    default = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("ATROUS_DATA", default))
    if not (folder / "camvid").is_dir():
        pytest.skip(f"no real data at {folder}; set ATROUS_DATA to the folder that holds camvid")
    return folder


@pytest.fixture(scope="module")
def browser():
    """Chromium. Where there is none the test is skipped, or fails if CI says that there must be."""
    from playwright.sync_api import sync_playwright

    path = shutil.which("chromium") or shutil.which("chromium-browser")
    if path is None:
        end = pytest.fail if "ATROUS_NEEDS_BROWSER" in os.environ else pytest.skip
        end("there is no browser: install Debian's package chromium")
    camera = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=path, args=["--no-sandbox", *camera])
        yield chromium
        chromium.close()


class Printed(str):
    """What a command printed, on one line; `out` and `err` are its two streams as they are."""

    out: str
    err: str


@pytest.fixture
def atrous(monkeypatch, capsys):
    """Run the command in this process; returns its exit code and what it printed."""
    monkeypatch.setenv("COLUMNS", "200")

    def call(*arguments) -> tuple[int, Printed]:
        monkeypatch.setattr(sys, "argv", ["atrous", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            run()
        captured = capsys.readouterr()
        printed = Printed(" ".join((captured.out + captured.err).split()))
        printed.out, printed.err = captured
        return int(ended.value.code or 0), printed

    return call


class FileServer(ThreadingHTTPServer):
    """A web server that answers byte ranges, and goes wrong as `faults` say, one per request.

    The same request goes wrong `max_faults` times.
    """

    def __init__(self, folder):
        super().__init__(("127.0.0.1", 0), FileHandler)
        self.folder, self.faults, self.max_faults = folder, itertools.repeat(""), 4
        self.requests = Counter()
        self.url = f"http://127.0.0.1:{self.server_port}"


class FileHandler(BaseHTTPRequestHandler):
    def do_GET(self):
        request = self.path, self.headers.get("Range", "")
        self.server.requests[request] += 1
        is_faulty = self.server.requests[request] <= self.server.max_faults
        fault = next(self.server.faults) if is_faulty else ""
        path = self.server.folder / self.path[1:]
        if fault == "busy" or not path.is_file():
            self.send_error(503 if fault == "busy" else 404)
            return
        time.sleep(0.5 * (fault == "stall"))
        content = path.read_bytes()
        bounds = re.fullmatch(r"bytes=(\d+)-(\d+)", request[1])
        if bounds and fault != "whole":
            content = content[int(bounds[1]) : int(bounds[2]) + 1]
        sent = content[: len(content) // 2] if fault in ("truncate", "drop") else content
        sent = sent[::-1] if fault == "change" else sent
        self.send_response(206 if bounds else 200)
        self.send_header("Content-Length", str(len(content if fault == "drop" else sent)))
        self.end_headers()
        for start in range(0, len(sent), 1000):
            time.sleep(0.002 * (fault == "slow"))
            self.wfile.write(sent[start : start + 1000])

    def log_message(self, *_):
        pass


@pytest.fixture
def file_server(tmp_path, monkeypatch):
    """A local web server of an empty folder, and an empty cache; failed tries do not wait."""
    from atrous.images import remote

    monkeypatch.setattr(remote, "_WAITS_S", (0, 0, 0, 0))
    monkeypatch.setenv("ATROUS_CACHE_DIR", str(tmp_path / "cache"))
    (tmp_path / "served").mkdir()
    with FileServer(tmp_path / "served") as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server
        server.shutdown()


COLORS = [[255, 0, 0], [0, 255, 0], [0, 0, 255]]


@pytest.fixture
def color_model():
    """A model whose answer is known: the class of the nearest colour, pixel by pixel."""
    palette = torch.tensor(COLORS) / 255
    head = nn.Conv2d(3, 3, 1)
    head.load_state_dict({"weight": 2 * palette[:, :, None, None], "bias": -(palette**2).sum(1)})
    options = {"num_classes": 3, "output_stride": 1}
    model = Segmenter(nn.Identity(), head, None, name="color_model", options=options)
    model.card = ModelCard(
        name="color_model",
        options=options,
        classes=build_classes(["red", "green", "blue"], COLORS),
        mean=(0.0, 0.0, 0.0),
        std=(1.0, 1.0, 1.0),
        size_hw=None,
        training={},
    )
    return model.eval()
