"""Responses of each path to valid and invalid requests."""

import asyncio
import base64
import itertools
import json
import re
import socket
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO

import numpy as np
import pytest
import torch
from colored import COLORS, decode, draw, encode
from PIL import Image
from test_image import build_png_header

from atrous.engines import TTA, TorchEngine
from atrous.serve.limits import Limits
from atrous.serve.page import build_page

PIXELS, MASK = draw()
PNG = encode(PIXELS)


def test_a_mask_is_returned_however_the_image_is_sent(serve):
    client = serve().client
    for sent in (
        {"content": PNG},
        {"content": PNG, "headers": {"content-type": "text/plain"}},
        {"content": (PNG[i : i + 100] for i in range(0, len(PNG), 100))},  # chunked
        {"files": {"image": ("a.txt", PNG)}},
        {"files": {"image": PNG}, "headers": {"accept": "image/*"}},
    ):
        response = client.post("/v1/segment", **sent)
        assert np.array_equal(decode(response), MASK)
        assert response.headers["content-type"] == "image/png"
        assert response.headers["cache-control"] == "no-store"


def test_ignored_parts_of_a_file_are_reported_in_a_header(serve):
    client, pages = serve().client, BytesIO()
    Image.fromarray(PIXELS).save(
        pages, "TIFF", save_all=True, append_images=[Image.fromarray(255 - PIXELS)]
    )
    for content, words in (
        (PNG, None),
        (pages.getvalue(), "only the first is read"),
        (encode(PIXELS, exif=b"Exif\0\0rubbish"), "damaged EXIF block"),
    ):
        response = client.post("/v1/segment", content=content)
        assert np.array_equal(decode(response), MASK)
        assert (words or "") in response.headers.get("atrous-warning", "")
        assert ("atrous-warning" in response.headers) == (words is not None)


def test_the_mask_has_the_colours_of_the_classes(serve):
    image = Image.open(BytesIO(serve().client.post("/v1/segment", content=PNG).content))
    assert image.mode == "P"
    assert np.array_equal(np.asarray(image.convert("RGB")), PIXELS)


def test_an_overlay_holds_the_image_and_takes_an_opacity(serve):
    client = serve().client
    grey = encode(np.full((40, 40, 3), 120, np.uint8) + COLORS[0] // 4)
    whole, none = (
        decode(client.post(f"/v1/segment?format=overlay&opacity={opacity}", content=grey))
        for opacity in (1, 0)
    )
    assert tuple(whole[20, 20]) == (255, 0, 0)
    assert tuple(none[20, 20]) == (183, 120, 120)
    assert whole.shape[0] > 40  # the legend


def test_json_has_shares_and_run_lengths(serve):
    client = serve().client
    responses = [
        client.post("/v1/segment?format=json", content=PNG),
        client.post("/v1/segment", content=PNG, headers={"accept": "application/json, */*;q=0.1"}),
    ]
    first, second = (response.json() for response in responses)
    assert first == second
    assert (first["width"], first["height"]) == (50, 40)
    assert (first["model"], first["engine"], first["precision"]) == ("colors", "torch", "32")
    for index, one in enumerate(first["classes"]):
        assert one["share"] == pytest.approx((index == MASK).mean(), abs=1e-6)
    assert [one["color"] for one in first["classes"]] == ["#ff0000", "#00ff00", "#0000ff"]
    assert [one["area"] for one in first["annotations"]] == np.bincount(MASK.ravel()).tolist()
    assert first["annotations"][0]["segmentation"]["size"] == [40, 50]


def test_models_are_listed_and_chosen_by_name(serve):
    client = serve(names=("one", "two")).client
    models = client.get("/v1/models").json()["models"]
    assert [(model["name"], model["default"]) for model in models] == [
        ("one", True),
        ("two", False),
    ]
    assert models[0]["classes"][1] == {"index": 1, "name": "green", "color": "#00ff00"}
    response = client.post("/v1/segment?model=two&format=json", content=PNG).json()
    assert response["model"] == "two"


SEGMENT = "/v1/segment"
BAD_REQUESTS = [
    ("GET", SEGMENT, {}, 405, "does not support this method"),
    ("POST", "/v1/models", {}, 405, "does not support this method"),
    ("GET", "/docs", {}, 404, "path or the model does not exist"),
    ("GET", "/../../etc/passwd", {}, 404, "path or the model does not exist"),
    ("POST", SEGMENT, {}, 400, "no image in the request"),
    ("POST", SEGMENT, {"files": {"image": b""}}, 400, "no image in the request"),
    ("POST", SEGMENT, {"content": b"GIF89a" + bytes(50)}, 415, "Send PNG, JPEG"),
    ("POST", SEGMENT, {"content": PNG[:300]}, 422, "damaged or incomplete"),
    ("POST", SEGMENT, {"content": bytes(1_000_001)}, 413, "larger than 1 MB"),
    ("POST", SEGMENT, {"content": iter([bytes(500_000)] * 3)}, 413, "larger than 1 MB"),
    ("POST", SEGMENT, {"files": {"image": bytes(1_000_001)}}, 413, "larger than 1 MB"),
    ("POST", SEGMENT, {"content": encode(draw(101, 101)[0])}, 413, "101 × 101"),
    ("POST", SEGMENT, {"files": {"photo": PNG}}, 422, "but has 'photo'"),
    ("POST", SEGMENT, {"data": {"a": "1"}, "files": {"image": PNG}}, 422, "one field"),
    ("POST", SEGMENT, {"files": [("image", PNG), ("image", PNG)]}, 400, "one part"),
    ("POST", SEGMENT, {"files": {"image": (None, b"text")}}, 422, "but has 'image' as text"),
    (
        "POST", SEGMENT, {"content": PNG, "headers": {"content-type": "multipart/form-data"}},
        400, "boundary",
    ),
    ("POST", f"{SEGMENT}?model=colours", {"content": PNG}, 404, "Did you mean 'colors'"),
    ("POST", f"{SEGMENT}?model={'x' * 900}", {"content": PNG}, 404, "x…'"),
    ("POST", f"{SEGMENT}?format=jpeg", {"content": PNG}, 422, "'mask', 'overlay' or 'json'"),
    ("POST", f"{SEGMENT}?opacity=2", {"content": PNG}, 422, "less than or equal to 1"),
    ("POST", f"{SEGMENT}?opacity=nan", {"content": PNG}, 422, "'opacity'"),
    ("POST", f"{SEGMENT}?fromat=json", {"content": PNG}, 422, "Did you mean 'format'"),
]  # fmt: skip


def test_bad_requests_are_told_what_is_wrong(serve):
    client = serve(Limits(max_body_bytes=10**6, max_pixels=10_000)).client
    for method, path, sent, status, words in BAD_REQUESTS:
        response = client.request(method, path, **sent)
        case = (method, path[:40], sorted(sent))
        assert response.status_code == status, (case, response.text)
        assert list(response.json()) == ["error"], case
        assert words in response.json()["error"], (case, response.text)
        assert "Traceback" not in response.text
    assert np.array_equal(decode(client.post(SEGMENT, content=PNG)), MASK)


def test_the_token_is_required_by_all_but_the_health_checks(serve):
    client = serve(token="s3cret", page=build_page(Limits())).client
    for path in ("/v1/models", "/metrics", "/openapi.json", "/"):
        response = client.get(path)
        assert (response.status_code, list(response.json())) == (401, ["error"])
        schemes = response.headers.get_list("www-authenticate")
        assert [scheme.split()[0] for scheme in schemes] == ["Basic", "Bearer"]
    for header in ("Bearer s3cre", "Bearer s3crett", "Bearer", "s3cret", "Bearer \xff", "Basic !"):
        headers = {"authorization": header.encode("latin-1")}
        assert client.post(SEGMENT, content=PNG, headers=headers).status_code == 401
    assert client.post(SEGMENT, content=PNG, auth=("who", "wrong")).status_code == 401
    for path in ("/healthz", "/readyz"):
        assert client.get(path).status_code == 200
    bearer = {"authorization": "bearer s3cret"}
    assert np.array_equal(decode(client.post(SEGMENT, content=PNG, headers=bearer)), MASK)
    assert client.get("/v1/models", auth=("anybody", "s3cret")).status_code == 200


def test_images_are_rejected_while_the_models_are_loading(serve, engine):
    running = serve(load=False)
    client = running.client
    assert client.get("/healthz").json() == {"state": "loading"}
    assert client.get("/readyz").status_code == 503
    for response in (client.get("/v1/models"), client.post(SEGMENT, content=PNG)):
        assert response.status_code == 503
        assert "models are loading" in response.json()["error"]
        assert response.headers["retry-after"]
    running.service.load()
    assert client.get("/readyz").json() == {"state": "ready"}
    assert client.post("/v1/segment", content=PNG).status_code == 200


def post_many(running, contents):
    pool = ThreadPoolExecutor(len(contents))
    return [pool.submit(running.client.post, SEGMENT, content=content) for content in contents]


def test_concurrent_requests_are_batched_with_the_same_results(serve, engine):
    running = serve(Limits(max_batch=4))
    images = [draw(40, 50, seed=seed) for seed in range(6)] + [draw(33, 50, seed=9)]
    engine.hold()
    first = post_many(running, [PNG])
    assert engine.started.wait(10)
    responses = post_many(running, [encode(pixels) for pixels, _ in images])
    running.wait_for(lambda: running.service.queue.num_waiting == 7)
    assert running.count("atrous_queue_images") == 7
    engine.go.set()
    for response, (_, mask) in zip(responses, images, strict=True):
        assert np.array_equal(decode(response.result()), mask)
    assert np.array_equal(decode(first[0].result()), MASK)
    assert sorted(engine.sizes) == [1, 1, 2, 4]
    assert running.count("atrous_batch_images_count") == 4
    assert running.count("atrous_batch_images_sum") == 8
    assert running.count('atrous_requests_total{path="/v1/segment",status="200"}') == 8


def test_a_full_queue_responds_with_429_and_retry_after(serve, engine):
    running = serve(Limits(max_waiting=2))
    engine.hold()
    responses = post_many(running, [PNG])
    assert engine.started.wait(10)
    responses += post_many(running, [PNG, PNG])
    running.wait_for(lambda: running.service.queue.num_waiting == 2)
    refused = running.client.post(SEGMENT, content=PNG)
    assert refused.status_code == 429
    assert "2 images are waiting" in refused.json()["error"]
    assert int(refused.headers["retry-after"]) >= 1
    assert running.count('atrous_rejected_total{status="429"}') == 1
    engine.go.set()
    assert [response.result().status_code for response in responses] == [200, 200, 200]


def test_an_image_past_its_deadline_is_dropped_from_the_queue(serve, engine):
    running = serve(Limits(deadline_s=4))
    running.client.post(SEGMENT, content=PNG)  # the first takes longer
    engine.sizes.clear()
    engine.hold()
    responses = post_many(running, [PNG])
    assert engine.started.wait(10)
    responses += post_many(running, [PNG])
    for response in responses:
        assert response.result().status_code == 504
        assert "within 4 seconds" in response.result().json()["error"]
    running.wait_for(lambda: running.service.queue.num_waiting == 0)
    engine.go.set()
    running.wait_for(lambda: engine.sizes == [1])
    assert running.client.post("/v1/segment", content=PNG).status_code == 200
    assert engine.sizes == [1, 1]
    running.wait_for(lambda: running.service.memory.reserved_bytes == 0)


class WindowedEngine(TorchEngine):
    """Runs in 64 windows, each of which waits for a permit."""

    def __init__(self, model):
        super().__init__(model, tta=TTA(window_px=32, overlap=0))
        self.permits = threading.Semaphore(1000)
        self.num_windows = 0

    def _forward(self, image):
        assert self.permits.acquire(timeout=20)
        self.num_windows += 1
        return super()._forward(image)


@pytest.mark.parametrize("query", ["", "?format=json&confidence=true"])
def test_an_image_past_its_deadline_is_abandoned_between_windows(serve, color_model, query):
    engine = WindowedEngine(color_model)
    running = serve(Limits(deadline_s=4), engine=engine)
    engine.permits, engine.num_windows = threading.Semaphore(3), 0
    large = encode(draw(256, 256)[0])
    assert running.client.post(SEGMENT + query, content=large).status_code == 504
    engine.permits.release(1000)
    assert running.client.post(SEGMENT, content=encode(draw(32, 32)[0])).status_code == 200
    assert engine.num_windows <= 6


def test_the_largest_image_follows_the_speed_of_the_model(serve, color_model, monkeypatch):
    ticks = itertools.count()
    monkeypatch.setattr("atrous.timing.time.perf_counter", lambda: next(ticks))
    engine = WindowedEngine(color_model)  # 256 × 256 pixels in one second
    running = serve(Limits(deadline_s=200), engine=engine)
    monkeypatch.undo()
    limit = 100 * 256 * 256
    assert running.client.get("/v1/models").json()["limits"]["max_pixels"] == limit
    assert serve(Limits(max_pixels=99), engine=engine).service.limits.max_pixels == 99
    response = running.client.post(SEGMENT, content=build_png_header(8000, 6250))
    assert (response.status_code, "6.55 million" in response.text) == (413, True)


def test_an_image_of_a_disconnected_client_is_dropped_from_the_queue(serve, engine):
    running = serve()
    engine.hold()
    kept = post_many(running, [PNG])
    assert engine.started.wait(10)
    with socket.create_connection(("127.0.0.1", running.port)) as sender:
        head = f"POST {SEGMENT} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(PNG)}\r\n\r\n"
        sender.sendall(head.encode() + PNG)
        running.wait_for(lambda: running.service.queue.num_waiting == 1)
    running.wait_for(lambda: running.count("atrous_cancelled_total") == 1)
    running.wait_for(lambda: running.service.queue.num_waiting == 0)
    engine.go.set()
    assert kept[0].result().status_code == 200
    assert engine.sizes == [1]


def test_stopping_completes_accepted_images(serve, engine):
    running = serve()
    engine.hold()
    responses = post_many(running, [PNG, encode(draw(32, 32)[0]), encode(draw(34, 34)[0])])
    running.wait_for(lambda: running.service.queue.num_waiting == 2)
    running.server.handle_exit(15, None)
    assert running.service.state == "stopping"
    time.sleep(0.3)
    engine.go.set()
    assert [response.result().status_code for response in responses] == [200, 200, 200]
    running.thread.join(10)
    assert not running.thread.is_alive()


def test_a_failing_model_responds_with_500_and_the_server_continues(serve, engine, monkeypatch):
    running = serve()
    finite = engine.model.head.bias.data.clone()
    engine.model.head.bias.data[:] = torch.nan
    response = running.client.post(SEGMENT, content=PNG)
    assert (response.status_code, response.json()) == (
        500,
        {"error": "Internal error; details are in the server's log."},
    )
    engine.model.head.bias.data[:] = finite
    assert running.client.post("/v1/segment", content=PNG).status_code == 200


def test_json_has_the_confidence_if_requested(serve, engine):
    running = serve()
    assert "confidence" not in running.client.post(f"{SEGMENT}?format=json", content=PNG).json()
    response = running.client.post(f"{SEGMENT}?format=json&confidence=1", content=PNG).json()
    confidence = np.array(Image.open(BytesIO(base64.b64decode(response["confidence"]))))
    logits = engine.compute_logits(torch.from_numpy(PIXELS).permute(2, 0, 1))
    expected = logits.softmax(0).amax(0).numpy()
    assert np.abs(confidence / 255 - expected).max() < 1 / 255
    assert running.service.memory.reserved_bytes == 0


def test_the_page_requires_the_token_and_has_its_own_paths_only(serve, engine):
    client = serve(token="secret", page=build_page(Limits())).client
    assert client.get("/").status_code == 401
    client.headers["Authorization"] = "Bearer secret"
    assert "text/html" in client.get("/").headers["content-type"]
    assert client.get("/v1/segment").status_code == 405
    assert "does not exist" in client.get("/v1/nothing").json()["error"]
    assert client.post("/v1/segment", content=PNG).status_code == 200


def test_decoders_print_nothing(serve, capfd):
    damaged = bytearray(encode(draw(300, 300)[0], "TIFF", compression="tiff_lzw"))
    damaged[2000:4000] = bytes(2000)
    assert serve().client.post(SEGMENT, content=bytes(damaged)).status_code == 422
    assert capfd.readouterr().err == ""


def test_images_are_never_written_to_disk(serve, monkeypatch, tmp_path):
    def refuse(*arguments, **options):
        raise AssertionError("a temporary file was made")

    for name in ("TemporaryFile", "NamedTemporaryFile", "mkstemp"):
        monkeypatch.setattr(tempfile, name, refuse)
    noise = np.random.default_rng(0).integers(0, 256, (900, 900, 3), dtype=np.uint8)
    content = encode(noise, "BMP")
    assert len(content) > 2**21
    response = serve().client.post(f"{SEGMENT}?format=json", files={"image": content})
    assert response.status_code == 200


def test_a_large_json_body_does_not_stall_the_event_loop(serve):
    running = serve(Limits(max_body_bytes=30_000_000))
    assert running.client.get("/healthz").status_code == 200
    body = b"[" + b"1," * 2_000_000 + b'"' + b"A" * 22_000_000 + b'"]'
    start_s = time.thread_time()
    json.loads(body)
    parsing_s = time.thread_time() - start_s
    steps_s = []  # in CPU time, which does not depend on other load

    async def watch():
        while True:
            start_s = time.thread_time()
            await asyncio.sleep(0.001)
            steps_s.append(time.thread_time() - start_s)

    watching = asyncio.run_coroutine_threadsafe(watch(), running.server.servers[0].get_loop())
    headers = {"content-type": "application/json"}
    assert running.client.post(SEGMENT, content=body, headers=headers).status_code == 415
    watching.cancel()
    assert max(steps_s) < parsing_s / 2


def test_metrics_are_named_as_documented(serve):
    client = serve().client
    client.get("/nothing")
    text = client.get("/metrics").text
    for name in (
        "atrous_requests_total", "atrous_request_seconds_bucket", "atrous_batch_images_bucket",
        "atrous_cancelled_total", "atrous_queue_images", "atrous_active_requests",
        "atrous_held_bytes",
    ):  # fmt: skip
        assert re.search(f"^{name}[ {{]", text, flags=re.MULTILINE), name
    assert 'path="other",status="404"' in text
    assert threading.active_count() < 50
