"""Hundreds of invalid bodies: no 5xx, no hang, and the server continues."""

import io
import random
import tarfile
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from colored import decode, draw, encode
from test_image import build_png_header

from atrous.serve.limits import Limits

PIXELS, MASK = draw()
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF")
BOUNDARY = {"content-type": "multipart/form-data; boundary=b"}
PART = b'--b\r\nContent-Disposition: form-data; name="image"; filename="a.png"\r\n\r\n'


def list_damaged() -> list[bytes]:
    """Every format, truncated at many lengths, with flipped bits, and with parts exchanged."""
    generator = random.Random(0)
    bodies = []
    for format in FORMATS:
        whole = encode(PIXELS, format)
        bodies += [whole[: len(whole) * part // 16] for part in range(1, 16)]
        for num_flips in (1, 4, 32):
            for _ in range(8):
                flipped = bytearray(whole)
                for _ in range(num_flips):
                    flipped[generator.randrange(len(flipped))] ^= 1 << generator.randrange(8)
                bodies.append(bytes(flipped))
        bodies += [whole[:20] + bytes(500), whole[::-1], whole[: len(whole) // 2] + whole]
    return bodies


def list_bombs() -> list[bytes]:
    """Small files with huge sizes in their headers, in each format."""
    bodies = [build_png_header(side, side) for side in (60_000, 2**31 - 1, 0)]
    bmp = bytearray(encode(PIXELS, "BMP"))
    bmp[18:26] = (60_000).to_bytes(4, "little") * 2
    jpeg = bytearray(encode(PIXELS, "JPEG"))
    place = jpeg.index(b"\xff\xc0") + 5
    jpeg[place : place + 4] = b"\xff\xff\xff\xff"
    tiff = bytearray(encode(PIXELS, "TIFF"))
    tiff = tiff.replace((50).to_bytes(4, "little"), (60_000).to_bytes(4, "little"))
    return [*bodies, bytes(bmp), bytes(jpeg), bytes(tiff)]


def list_wrong_types() -> list[bytes]:
    """Files of other types."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("a.png", encode(PIXELS))
    tape = io.BytesIO()
    with tarfile.open(fileobj=tape, mode="w") as file:
        file.addfile(tarfile.TarInfo("a"))
    return [
        *(encode(PIXELS, format) for format in ("GIF", "PDF", "PPM", "TGA", "EPS", "ICO")),
        archive.getvalue(), tape.getvalue(), b"\x80\x04\x95.", b"\0", b"text", b"{}", b"<svg/>",
        "ä".encode(), bytes(5000), b"\xff" * 5000, b"%!PS-Adobe-3.0 EPSF-3.0\n", b"\x7fELF" * 9,
    ]  # fmt: skip


def list_multipart() -> list[bytes]:
    """Multipart bodies that are malformed, empty or without an image; boundary `b`."""
    png = encode(PIXELS)
    whole = PART + png + b"\r\n--b--\r\n"
    return [
        *(whole[:length] for length in range(1, len(whole) - 8, 40)),
        b"", b"--b--", b"--b\r\n\r\n", png, whole.replace(b"--b", b"--c"), whole * 2,
        whole.replace(b"image", b"image"), whole.replace(b"form-data", b"other"),
        whole.replace(b'; filename="a.png"', b""), whole.replace(b'name="image"; ', b""),
        whole.replace(b"a.png", b"../../etc/passwd\0" * 50) [: len(whole)],
        PART.replace(b"\r\n\r\n", b"\r\nX: " + b"y" * 9000 + b"\r\n\r\n"),
        b"--b\r\n" + b"X: y\r\n" * 3000 + b"\r\n--b--\r\n",
    ]  # fmt: skip


def list_requests() -> list[dict]:
    bodies = list_damaged() + list_bombs() + list_wrong_types()
    sent = [{"content": body} for body in bodies]
    sent += [{"content": body, "headers": BOUNDARY} for body in list_multipart()]
    sent += [{"files": {"image": ("a.png", body)}} for body in list_wrong_types()]
    strange = ("multipart/form-data", "multipart/form-data; boundary=", 'a/b; x="', "\x7f", "")
    return sent + [
        {"content": bodies[3], "headers": {"content-type": content_type}}
        for content_type in (*strange, "multipart/form-data; boundary=" + "b" * 9000)
    ]


# Files with flipped bits may still be valid images.
FINE = {200, 400, 413, 415, 422}


def test_no_invalid_body_causes_an_internal_error(serve):
    running = serve(Limits(max_pixels=10**6, transfer_s=5, deadline_s=10))
    requests = list_requests()
    assert len(requests) >= 200

    def post(sent):
        start_s = time.monotonic()
        response = running.client.post("/v1/segment", **sent)
        return response.status_code, response.headers["content-type"], time.monotonic() - start_s

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(post, requests))
    assert {status for status, *_ in found} == FINE
    for (status, content_type, took_s), sent in zip(found, requests, strict=True):
        assert content_type == ("image/png" if status == 200 else "application/json"), sent
        assert took_s < 10
    refused = [found[index][0] for index in range(-6 - len(list_wrong_types()), -6)]
    assert set(refused) == {415}
    response = running.client.post("/v1/segment", content=encode(PIXELS))
    assert np.array_equal(decode(response), MASK)
    running.wait_for(lambda: not running.server.server_state.tasks)
    assert running.service.memory.reserved_bytes == 0


@pytest.mark.parametrize("body", list_bombs(), ids=range(len(list_bombs())))
def test_no_bomb_is_decoded(body, serve, engine):
    response = serve().client.post("/v1/segment", content=body)
    assert response.status_code in (413, 415, 422)
    assert engine.sizes == []
