"""The documented settings of nginx, with TLS."""

import re
import shutil
import socket
import ssl
import subprocess
from pathlib import Path

import httpx
import numpy as np
import pytest
from colored import decode, draw, encode

from atrous.serve.limits import Limits
from atrous.serve.page import build_page

GUIDE = Path(__file__).parents[2] / "docs/serve.md"
CONFIG = """
daemon off; pid {folder}/pid; error_log {folder}/error.log;
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/a; uwsgi_temp_path {folder}/b; scgi_temp_path {folder}/c;
    server {{
        listen 127.0.0.1:{port} ssl; ssl_certificate cert.pem; ssl_certificate_key key.pem;
        {location}
    }}
}}
"""


@pytest.mark.slow
def test_the_documented_settings_work_over_tls(serve, tmp_path):
    if not (shutil.which("nginx") and shutil.which("openssl")):
        pytest.skip("there is no nginx: install Debian's package nginx-light")
    running = serve(token="s3cret", page=build_page(Limits()))
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    location = re.search(r"    location / \{.*?\n    \}", GUIDE.read_text(), re.DOTALL)[0]
    location = location.replace("127.0.0.1:8000", f"127.0.0.1:{running.port}")
    config = CONFIG.format(folder=tmp_path, port=port, location=location)
    (tmp_path / "nginx.conf").write_text(config)
    subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    keys = ["-keyout", tmp_path / "key.pem", "-out", tmp_path / "cert.pem", "-days", "2"]
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", *keys, *subject],
        check=True, capture_output=True,
    )  # fmt: skip
    proxy = subprocess.Popen(["nginx", "-c", tmp_path / "nginx.conf"])
    try:
        trusted = ssl.create_default_context(cafile=tmp_path / "cert.pem")
        transport = httpx.HTTPTransport(verify=trusted, retries=8)
        client = httpx.Client(base_url=f"https://localhost:{port}", transport=transport, timeout=20)
        assert client.get("/readyz").json() == {"state": "ready"}
        assert client.get("/").status_code == 401
        client.auth = ("anybody", "s3cret")
        assert "script-src 'self'" in client.get("/").headers["content-security-policy"]
        pixels, mask = draw()
        png = encode(pixels)
        for content in (png, (png[i : i + 100] for i in range(0, len(png), 100))):
            assert np.array_equal(decode(client.post("/v1/segment", content=content)), mask)
    finally:
        proxy.terminate()
        proxy.wait()
