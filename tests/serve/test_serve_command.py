"""`atrous serve` as a process, and its errors for invalid options."""

import os
import re
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import httpx
import numpy as np
import pytest
import torch
from colored import decode, draw, encode

from atrous.classes import build_classes
from atrous.engines import open_engine
from atrous.models import ModelCard, build_model, save_weights
from atrous.serve.app import build_app
from atrous.serve.limits import Limits
from atrous.serve.listening import open_socket
from atrous.serve.server import Server, run_server
from atrous.serve.service import Service


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    torch.manual_seed(0)
    model = build_model("deeplabv3plus_mobilenet_v3_large", num_classes=3, decoder_channels=8)
    card = ModelCard(
        model.name, model.options, build_classes(["a", "b", "c"]), (0.5, 0.5, 0.5), (0.2, 0.2, 0.2),
        None, {},
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("runs") / "street"
    folder.mkdir()
    save_weights(folder / "best.safetensors", model, card)
    return folder


def test_wrong_options_are_a_paragraph_and_exit_code_2(atrous, weights, tmp_path):
    (tmp_path / "empty").write_text("\n")
    (tmp_path / "torn.safetensors").write_bytes(b"torn")
    (tmp_path / "torn.onnx").write_bytes(b"torn")
    taken = socket.create_server(("127.0.0.1", 0))
    cases = [
        ([tmp_path / "none"], "no run folder or weights file"),
        ([tmp_path], "holds neither best.safetensors"),
        ([tmp_path / "torn.safetensors"], "torn.safetensors"),
        ([tmp_path / "torn.onnx"], "torn.onnx"),
        ([weights, weights], "Two models are called 'street'"),
        ([weights, "--name", "a", "--name", "b"], "1 models were given, but 2 names"),
        ([weights, "--name", ""], "'' is not a valid name"),
        ([weights, "--engine", "onnx"], "has no export onnx. Make it first"),
        ([weights, "--engine", "tensorrt"], "There is no engine 'tensorrt'"),
        ([weights, "--port", taken.getsockname()[1]], "Choose another --host or --port"),
        ([weights, "--port", 70_000], "Choose another --host or --port"),
        ([weights, "--host", "no.such.host.invalid"], "Cannot listen on no.such.host.invalid"),
        ([weights, "--token-file", tmp_path / "none"], "No such file"),
        ([weights, "--token-file", tmp_path / "empty"], "not empty"),
        ([weights, "--max-waiting", 0], "max_waiting must be a number above 0"),
        ([weights, "--max-body-mb", "nan"], "max_body_bytes must be a number above 0, not nan"),
        ([weights, "--deadline", "inf"], "deadline_s must be a number above 0, not inf"),
        ([weights, "--max-megapixels", 900], "too small for the largest allowed image"),
        ([weights, "--window", 5], "below 32 px"),
        ([weights, "--device", "gpu"], "no such device as 'gpu'"),
    ]
    for arguments, words in cases:
        code, printed = atrous(
            "serve", *arguments, *([] if "--port" in arguments else ["--port", 0])
        )
        assert code == 2, (arguments, printed)
        assert words in printed, (arguments, printed)
        assert "Traceback" not in printed
    taken.close()


def test_a_busy_port_is_reported_before_slow_imports(weights):
    script = "import sys; from atrous.cli.main import run\n"
    script += "try: run()\nfinally: print(sorted({'torch', 'fastapi'} & {*sys.modules}))"
    with socket.create_server(("127.0.0.1", 0)) as taken:
        command = ["serve", weights, "--port", str(taken.getsockname()[1])]
        done = subprocess.run(
            [sys.executable, "-c", script, *command], capture_output=True, text=True, check=False
        )
    assert (done.returncode, done.stdout) == (2, "[]\n"), done.stderr
    assert "Address already in use. Choose another --host or --port" in " ".join(
        done.stderr.split()
    )


def test_a_missing_package_is_reported_with_its_extra(atrous, weights, monkeypatch):
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    code, printed = atrous("serve", weights)
    assert code == 2
    assert "pip install 'atrous[serve]'" in printed


def test_a_model_that_fails_after_the_server_was_stopped_is_no_error():
    def open_model():
        server.should_exit = True
        raise OSError("the socket is closed")

    service = Service({"late": open_model}, Limits())
    server = Server(service, build_app(service))
    run_server(server, open_socket("127.0.0.1", 0), print)
    assert service.state == "stopping"


@pytest.mark.slow
def test_a_process_serves_and_stops_without_losing_an_image(weights, tmp_path):
    token = tmp_path / "token"
    token.write_text("s3cret\n")
    command = [sys.executable, "-m", "atrous", "serve", weights, "--port", "0"]
    process = subprocess.Popen(
        [*command, "--token-file", token],
        stderr=subprocess.PIPE, text=True, env={**os.environ, "COLUMNS": "200"},
    )  # fmt: skip
    watchdog = threading.Timer(120, process.kill)
    watchdog.start()
    try:
        url = re.search(r"http://[\d.]+:\d+", process.stderr.readline()).group()
        pixels, _ = draw(300, 400)
        with httpx.Client(base_url=url, headers={"authorization": "Bearer s3cret"}) as client:
            mask = decode(client.post("/v1/segment", content=encode(pixels), timeout=60))
            image = torch.from_numpy(pixels).permute(2, 0, 1)
            assert np.array_equal(mask, open_engine(weights).predict_mask(image).numpy())
            responses = []

            def post():
                responses.append(client.post("/v1/segment", content=encode(pixels), timeout=60))

            threads = [threading.Thread(target=post) for _ in range(6)]
            for thread in threads:
                thread.start()
            taken = 0
            while taken < 6:
                answered = len(responses)  # first, so that none is counted twice
                metrics = client.get("/metrics").text
                active = float(re.search(r"^atrous_active_requests (\S+)", metrics, re.M)[1])
                taken = answered + active - 1  # the request for the metrics is active too
            process.send_signal(signal.SIGTERM)
            for thread in threads:
                thread.join()
        assert [response.status_code for response in responses] == [200] * 6
        assert process.wait(60) == 0
        assert "all accepted images are processed" in process.stderr.read()
    finally:
        watchdog.cancel()
        process.kill()
        process.wait()
