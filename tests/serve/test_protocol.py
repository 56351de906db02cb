"""Connections that are slow, invalid or too many; the server continues after each."""

import json
import socket
import time

import numpy as np
import pytest
from colored import decode, draw, encode

from atrous.serve.limits import Limits
from atrous.serve.listening import open_socket

PIXELS, MASK = draw()
PNG = encode(PIXELS)
POST = b"POST /v1/segment HTTP/1.1\r\nHost: localhost\r\n"
HEAD = POST + b"Content-Length: %d\r\n\r\n"


@pytest.fixture
def running(serve):
    running = serve(Limits(transfer_s=1, max_connections=5, max_body_bytes=10**6))
    yield running
    running.wait_for(lambda: not running.server.server_state.tasks)
    assert np.array_equal(decode(running.client.post("/v1/segment", content=PNG)), MASK)


def connect(running) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", running.port), timeout=10)
    return connection


def read_until(connection, end: bytes) -> bytes:
    received = b""
    while end not in received and (data := connection.recv(65536)):
        received += data
    return received


def test_the_body_of_a_response_does_not_wait_for_the_client_to_confirm_its_headers():
    with open_socket("127.0.0.1", 0) as listener, socket.create_connection(listener.getsockname()):
        connection, _ = listener.accept()
        with connection:
            assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def trickle(connection, content: bytes) -> bool:
    """Send byte by byte, slowly; return whether the server closed the connection."""
    try:
        for byte in content:
            connection.sendall(bytes([byte]))
            time.sleep(0.05)
    except OSError:
        return True
    return False


def read_all(connection) -> tuple[int, str]:
    """Status and error of the response; 0 if there is none."""
    received = b""
    while data := connection.recv(65536):
        received += data
    if not received:
        return 0, ""
    head, _, body = received.partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(body)["error"]


@pytest.mark.parametrize(
    ("sent", "status", "words"),
    [
        (b"", 0, ""),
        (b"POST /v1/segm", 408, "headers did not arrive"),
        (b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n", 408, "headers did not arrive"),
        (HEAD % len(PNG) + PNG[:200], 408, "body did not arrive"),
    ],
)
def test_slow_clients_are_timed_out(running, sent, status, words):
    with connect(running) as connection:
        connection.sendall(sent)
        start_s = time.monotonic()
        found = read_all(connection)
        assert time.monotonic() - start_s < 10
    assert found[0] == status
    assert words in found[1]


def test_headers_that_arrive_byte_by_byte_are_timed_out(running):
    with connect(running) as connection:
        assert trickle(connection, b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 100)


@pytest.mark.parametrize(
    ("sent", "status", "words"),
    [
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400, "not valid HTTP"),
        (HEAD % -1, 400, "not valid"),
        (POST + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n", 400, ""),
        *(
            (POST + b"X: " + b"y" * num_bytes + b"\r\n\r\n", 431, "16 KiB")
            for num_bytes in (16_400, 60_000, 600_000)
        ),
        (b"GET /" + b"y" * 600_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n", 431, "16 KiB"),
        (POST + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n", 400, "not valid HTTP"),
    ],
)  # fmt: skip
def test_invalid_http_is_rejected(running, sent, status, words):
    with connect(running) as connection:
        try:
            connection.sendall(sent)
            found = read_all(connection)
        except ConnectionResetError:  # it was still sending when the response arrived
            return
    assert found[0] == status
    assert words in found[1]


@pytest.mark.parametrize("path", ["/v1/segment", "/v1/models", "/healthz", "/", "/nothing"])
def test_two_framings_of_a_body_are_rejected_on_every_path(running, path):
    framings = b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n"
    with connect(running) as connection:
        connection.sendall(POST.replace(b"/v1/segment", path.encode()) + framings)
        status, error = read_all(connection)  # which returns: the connection is closed
    assert status == 400
    assert "Transfer-Encoding" in error


def test_foreign_names_of_the_server_are_rejected_and_not_repeated(serve):
    client = serve(hosts=["Example.org"]).client
    port = client.base_url.port
    names = {
        f"localhost:{port}": 200, "127.0.0.1": 200, f"[::1]:{port}": 200, "example.ORG:80": 200,
        "evil.example": 421, "example.org.evil.example": 421, "127.0.0.2": 421, "": 421,
        "localhost@evil.example": 421, "localhost:80:80": 421,
    }  # fmt: skip
    for path in ("/healthz", "/v1/models"):
        for name, status in names.items():
            assert client.get(path, headers={"host": name}).status_code == status, name
    response = client.get("/v1/models/", headers={"origin": "http://evil.example"})
    assert response.status_code == 404  # no redirect, which would contain the Host header
    assert "evil" not in str(response.headers)
    assert serve(hosts=["*"]).client.get("/", headers={"host": "any"}).status_code == 404


def test_the_rest_of_a_rejected_body_is_not_read_without_end(running):
    with connect(running) as connection:
        connection.sendall(POST + b"Content-Length: 999999999\r\n\r\n")
        assert b" 413 " in read_until(connection, b'compression."}')
        num_sent = 0
        try:
            while num_sent < 10**8:
                num_sent += connection.send(bytes(10**5))
        except OSError:
            pass
    assert num_sent < 5 * 10**7


def test_connections_above_the_maximum_are_rejected(running):
    idle = [connect(running) for _ in range(5)]
    running.wait_for(lambda: len(running.server.server_state.connections) == 5)
    with connect(running) as connection:
        status, error = read_all(connection)
    assert status == 503
    assert "too many connections" in error
    for connection in idle:
        connection.close()
    running.wait_for(lambda: not running.server.server_state.connections)


def test_the_rest_of_a_rejected_body_is_read_within_a_time_limit(running):
    with connect(running) as connection:
        connection.sendall(HEAD % (2 * 10**6) + bytes(10**6))
        assert b" 413 " in read_until(connection, b'compression."}')
        connection.sendall(bytes(10**6) + HEAD % len(PNG) + PNG)  # the connection is reused
        assert b" 200 OK" in read_until(connection, b"IEND")
    with connect(running) as connection:
        connection.sendall(HEAD % 10**9)
        assert trickle(connection, bytes(200))


def test_a_response_that_is_not_received_is_aborted(running):
    noise = np.random.default_rng(0).integers(0, 256, (500, 500, 3), dtype=np.uint8)
    content = encode(noise, "JPEG")
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.connect(("127.0.0.1", running.port))
    target = HEAD.replace(b"segment", b"segment?format=overlay")
    with connection:
        connection.settimeout(0.5)
        try:
            for _ in range(40):
                connection.sendall(target % len(content) + content)
        except OSError:
            pass
        running.wait_for(lambda: not running.server.server_state.connections)
