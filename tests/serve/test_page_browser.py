"""The page in a real browser: what it shows, how it is worked, what it asks for and what it keeps.

The model is a function whose answer is known: the class is the hundreds of a grey value, and how
sure it is grows from left to right.
"""

import base64
import io
import json
import pathlib
import socket
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request

import fastapi
import numpy as np
import pytest
import uvicorn
from axe_playwright_python.sync_playwright import Axe
from PIL import Image

from atrous.classes import build_classes
from atrous.data.shapes import SHAPES
from atrous.errors import ConfigError, DataError
from atrous.serve import Limits, Segmented
from atrous.serve.memory import Hold, Memory
from atrous.serve.page import build_page, mount_page
from atrous.serve.picture import decode_picture

pytestmark = pytest.mark.browser

NAMES = ["black", "red & <b>bold</b>", "blue"]
CLASSES = build_classes(NAMES, [[0, 0, 0], [255, 0, 0], [0, 0, 255]])
GREYS = np.repeat(np.uint8([10, 110, 210]), 20)[:, None].repeat(80, axis=1)
LIMITS = Limits(max_pixels=10_000, max_body_bytes=2**16)


def segment(model, content):
    image = decode_picture(content, LIMITS, Hold(Memory(2**30))).permute(1, 2, 0).numpy()
    if model == "unhappy":
        raise DataError("The model does not like this picture. Take another.")
    if model == "slow":
        raise TimeoutError
    if model == "broken":
        raise RuntimeError("a secret of the server")
    confidence = np.linspace(0.5, 1, image.shape[1], dtype=np.float32)
    return Segmented(image[:, :, 0] // 100, np.tile(confidence, (image.shape[0], 1)))


def encode(pixels, suffix="PNG", **options):
    file = io.BytesIO()
    Image.fromarray(pixels).convert("RGB").save(file, suffix, **options)
    return file.getvalue()


@pytest.fixture(scope="module")
def temp_folder(tmp_path_factory):
    """The only place for temporary files of this process, gradio's among them."""
    folder = tmp_path_factory.mktemp("temp")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tempfile, "tempdir", str(folder))
        patch.setenv("GRADIO_TEMP_DIR", str(folder / "gradio"))
        yield folder


@pytest.fixture(scope="module")
def address(temp_folder, tmp_path_factory):
    """A running server with the page and one route of its own."""
    example = tmp_path_factory.mktemp("examples") / "example.png"
    example.write_bytes(encode(GREYS[:, :40]))
    app = fastapi.FastAPI()
    app.get("/healthz")(lambda: "well")
    models = dict.fromkeys(["good", "unhappy", "slow", "broken"], CLASSES)
    page = build_page(models, segment, examples=[example], limits=LIMITS)
    mount_page(app, page, LIMITS)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        while not server.started:
            time.sleep(0.01)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        server.should_exit = True
        thread.join(20)
    assert not thread.is_alive()


@pytest.fixture(scope="module")
def opened(address, browser):
    """The page in a browser that has loaded it once, with what it asked for and complained of."""
    page = browser.new_page()
    page.problems, page.requests = [], []
    page.on("console", lambda message: page.problems.append(message.text))
    page.on("pageerror", lambda error: page.problems.append(str(error)))
    page.on("request", lambda request: page.requests.append(request.url))
    page.goto(address)
    page.wait_for_selector(".atrous .choose")
    yield page
    page.close()


@pytest.fixture
def page(opened):
    """The page with the answer for `GREYS`, at half opacity."""
    opened.select_option(".model select", "good")
    opened.set_viewport_size({"width": 1280, "height": 900})
    give(opened, encode(GREYS), "greys.png")
    opened.locator(".opacity input").fill("50")
    opened.locator(".status:has-text('80 × 60')").wait_for()
    return opened


def give(page, content, name):
    page.set_input_files(".file", {"name": name, "mimeType": "image/png", "buffer": content})


def transfer(page, kind, content, name):
    """Drop or paste a file as a browser does it."""
    page.evaluate(
        """([kind, base64, name]) => {
            const bytes = Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
            const files = new DataTransfer();
            files.items.add(new File([bytes], name, { type: "image/jpeg" }));
            const event = kind === "drop"
                ? new DragEvent("drop", { dataTransfer: files, bubbles: true, cancelable: true })
                : new ClipboardEvent("paste", { clipboardData: files, bubbles: true });
            document.querySelector(".stage").dispatchEvent(event);
        }""",
        [kind, base64.b64encode(content).decode(), name],
    )


def read_pixel(page, x, y):
    """Wait until what was asked for is drawn, then look at the canvas."""
    script = """([x, y]) => new Promise((resolve) => requestAnimationFrame(() => setTimeout(() => {
        const copy = new OffscreenCanvas(1, 1).getContext("2d");
        copy.drawImage(document.querySelector(".atrous canvas"), -x, -y);
        resolve([...copy.getImageData(0, 0, 1, 1).data.slice(0, 3)]);
    })))"""
    return page.evaluate(script, [x, y])


def test_opacity_and_legend_change_the_overlay(page):
    assert read_pixel(page, 40, 5) == [10, 10, 10]  # a black class does not hide the picture
    assert read_pixel(page, 40, 50) == pytest.approx([105, 105, 232], abs=2)
    page.focus(".opacity input")
    page.keyboard.press("End")
    assert page.inner_text(".opacity output") == "100 %"
    assert read_pixel(page, 40, 50) == [0, 0, 255]
    page.keyboard.press("Home")
    assert read_pixel(page, 40, 50) == [210, 210, 210]
    page.keyboard.press("End")
    page.get_by_label("blue").focus()
    page.keyboard.press("Space")
    assert read_pixel(page, 40, 50) == [210, 210, 210]
    assert read_pixel(page, 40, 30) == [255, 0, 0]
    page.click(".none")
    assert read_pixel(page, 40, 30) == [110, 110, 110]
    page.click(".all")
    assert read_pixel(page, 40, 50) == [0, 0, 255]


def test_the_legend_lists_what_is_there_with_its_share(page):
    give(page, encode(GREYS[15:]), "part.png")
    page.locator(".status:has-text('part.png: 3 classes, 80 × 45')").wait_for()
    rows = page.locator(".classes li").all_inner_texts()
    shares = [20 / 45, 20 / 45, 5 / 45]
    names = [NAMES[1], NAMES[2], NAMES[0]]
    assert [row.split("\n") for row in rows] == [
        [name, f"{100 * share:.1f} %"] for name, share in zip(names, shares, strict=True)
    ]
    give(page, encode(GREYS[40:]), "one.png")
    page.locator(".status:has-text('one.png: 1 class, 80 × 20')").wait_for()
    assert page.inner_text(".absent") == f"Not found: black, {NAMES[1]}."


def test_the_pointer_tells_class_and_confidence(page):
    box = page.locator(".atrous canvas").bounding_box()
    page.mouse.move(box["x"] + 0.999 * box["width"], box["y"] + 0.9 * box["height"])
    assert page.inner_text(".tip") == "blue, over 99 % sure"
    page.mouse.move(box["x"] + 2, box["y"] + 0.5 * box["height"])
    assert page.inner_text(".tip") == f"{NAMES[1]}, 50 % sure"
    page.mouse.move(0, 0)
    assert not page.is_visible(".tip")


def test_the_pointer_is_moved_and_heard_by_keyboard(page):
    page.focus(".atrous canvas")
    page.keyboard.press("Shift+ArrowDown")
    page.keyboard.press("Shift+ArrowDown")
    page.keyboard.press("ArrowLeft")
    assert page.inner_text(".tip") == page.text_content(".spoken") == "blue, 75 % sure"


def test_downloads_are_exact(page):
    with page.expect_download() as download:
        page.click(".save-mask")
    mask = Image.open(download.value.path())
    assert (download.value.suggested_filename, mask.mode) == ("greys_mask.png", "P")
    assert (np.asarray(mask) == GREYS // 100).all()
    assert mask.getpalette()[:9] == CLASSES.palette[:9]
    with page.expect_download() as download:
        page.click(".save-overlay")
    overlay = np.asarray(Image.open(download.value.path()))
    assert download.value.suggested_filename == "greys_overlay.png"
    assert overlay.shape == (60, 80, 4)
    assert overlay[50, 40, :3].tolist() == pytest.approx([105, 105, 232], abs=2)


def test_pictures_are_dropped_pasted_taken_and_tried(page):
    turned = Image.Exif()
    turned[0x0112] = 6
    transfer(page, "drop", encode(GREYS, "JPEG", exif=turned), "upright.jpg")
    page.locator(".status:has-text('upright.jpg: 3 classes, 60 × 80')").wait_for()
    assert page.evaluate("document.querySelector('.atrous canvas').height") == 80
    transfer(page, "paste", encode(GREYS[:30], "JPEG"), "pasted.jpg")
    page.locator(".status:has-text('pasted.jpg: 2 classes, 80 × 30')").wait_for()
    page.get_by_role("button", name="Example example.png").click()
    page.locator(".status:has-text('example.png: 3 classes, 40 × 60')").wait_for()
    page.click(".take")
    page.wait_for_function("document.querySelector('.atrous video').videoWidth > 0")
    page.keyboard.press("Escape")
    assert not page.is_visible("dialog")


@pytest.mark.parametrize(
    ("content", "name", "words"),
    [
        (b"words", "notes.txt", "notes.txt is not a picture"),
        (b"", "empty.png", "empty.png is not a picture"),
        (encode(np.zeros((200, 100), np.uint8)), "large.png", "large.png is too large: 100 × 200"),
        (bytes(70_000), "heavy.png", "heavy.png is too large: 0.1 MB"),
    ],
    ids=["text", "empty", "many pixels", "many bytes"],
)
def test_a_bad_file_is_refused_in_words(page, content, name, words):
    give(page, content, name)
    page.locator(f"[role=alert]:has-text('{words}')").wait_for()
    assert page.inner_text(".status") == ""
    give(page, encode(GREYS), "good.png")
    page.locator(".status:has-text('good.png: 3 classes')").wait_for()
    assert not page.is_visible("[role=alert]")


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ("unhappy", "The model does not like this picture. Take another."),
        ("slow", "The answer took too long."),
        ("broken", "Something went wrong in the server"),
    ],
)
def test_a_failing_model_is_told_in_words(page, model, words):
    page.select_option(".model select", model)
    page.locator(f"[role=alert]:has-text('{words}')").wait_for()
    assert "secret" not in page.content()
    assert not page.locator(".atrous[aria-busy]").count()


def test_a_silent_server_is_told_in_words(page):
    problems = list(page.problems)
    page.route("**/component_server/", lambda route: route.fulfill(status=503, body="{}"))
    page.get_by_role("button", name="Example example.png").click()
    page.locator("[role=alert]:has-text('gave no answer')").wait_for()
    give(page, encode(GREYS), "other.png")
    page.locator("[role=alert]:has-text('gave no answer')").wait_for()
    page.unroute_all()
    page.problems[:] = problems  # the browser itself tells of the 503


def test_it_is_accessible_and_fits(page):
    give(page, b"words", "notes.txt")
    page.locator("[role=alert]:has-text('notes.txt')").wait_for()
    page.locator(".atrous canvas").hover()
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        for width in (360, 1280):
            page.set_viewport_size({"width": width, "height": 800})
            violations = Axe().run(page).response["violations"]
            found = [(one["id"], node["html"][:200]) for one in violations for node in one["nodes"]]
            assert not found, (scheme, width)
            assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.emulate_media(color_scheme="light")
    with page.expect_download() as download:
        page.click(".save-mask")
    assert download.value.suggested_filename == "greys_mask.png"


def test_it_asks_no_other_host_complains_of_nothing_and_keeps_nothing(page, address, temp_folder):
    hosts = {url.split("/")[2] for url in page.requests if url.startswith("http")}
    assert hosts == {address.removeprefix("http://")}
    assert not page.problems
    assert not [path for path in temp_folder.rglob("*") if path.is_file()]
    blocked = """new Promise((resolve) => {
        document.addEventListener("securitypolicyviolation", (event) => resolve(event.blockedURI));
        fetch("http://elsewhere.invalid/").catch(() => {});
    })"""
    assert page.evaluate(blocked) == "http://elsewhere.invalid/"


def ask(url, body=None, **headers):
    request = urllib.request.Request(url, body, headers)
    try:
        with urllib.request.urlopen(request) as response:
            return response.status, response.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def test_only_what_the_page_needs_is_open(address):
    call = f"{address}/gradio_api/component_server/"
    assert ask(f"{address}/healthz") == (200, b'"well"')
    for path in ("upload", "file=/etc/passwd", "proxy=http://a.b/", "queue/join", "../config"):
        for body in (None, b"{}"):
            assert ask(f"{address}/gradio_api/{path}", body)[0] in (404, 405), path
    assert ask(call, b"{}", **{"Content-Type": "text/plain"})[0] == 415
    assert ask(call, bytes(2**17), **{"Content-Type": "application/json"})[0] == 413
    assert ask(call, b"rubbish", **{"Content-Type": "application/json"})[0] == 400


@pytest.fixture
def call(opened, address):
    """Calls a function of the page without the page."""
    numbers = opened.evaluate("window.gradio_config.components.map((one) => one.id)")

    def call_function(data, name="segment_picture", component=numbers[0]):
        body = {"data": data, "component_id": component, "fn_name": name, "session_hash": "a"}
        url = f"{address}/gradio_api/component_server/"
        status, text = ask(url, json.dumps(body).encode(), **{"Content-Type": "application/json"})
        return json.loads(text) if status == 200 else status

    return call_function


def test_the_server_itself_refuses_what_the_browser_would_have(call):
    def refuse(content, model="good"):
        picture = base64.b64encode(content).decode()
        return call({"model": model, "name": "a.eps", "picture": picture})["error"]

    assert "holds no picture" in call(None)["error"]
    assert (
        "holds no picture" in call({"model": "good", "name": "a", "picture": "no base64"})["error"]
    )
    assert "no model 'gone'" in refuse(b"", "gone")
    assert "is no picture that can be read" in refuse(b"%!PS-Adobe-3.0 EPSF-3.0\n")
    assert "100 × 200 pixels" in refuse(encode(np.zeros((200, 100), np.uint8)))
    assert "cannot be decoded" in refuse(encode(GREYS)[:-40])


def test_rubbish_is_a_bad_request(call):
    for index in (99, -1, "0", None, [1]):
        assert call(index, "fetch_example") == ""
    assert call(0, "get_config") in (400, 404)
    for component in (999, -1, None, [], {}):
        assert call(0, component=component) == 400


def test_a_model_of_the_sample_set_brings_examples():
    def count_examples(models, **options):
        page = build_page(models, segment, **options)
        (component,) = page.config["components"]
        return len(component["props"]["props"]["settings"]["examples"])

    assert count_examples({"good": CLASSES}) == 0
    assert count_examples({"good": CLASSES, "shapes": SHAPES}) == 3


def test_without_gradio_or_models_it_says_so(monkeypatch):
    with pytest.raises(ConfigError, match="no model"):
        build_page({}, segment)
    with pytest.raises(DataError, match=r"nowhere.png cannot be used"):
        build_page({"good": CLASSES}, segment, examples=[pathlib.Path("nowhere.png")])
    monkeypatch.setitem(sys.modules, "gradio", None)
    with pytest.raises(ConfigError, match=r"pip install 'atrous\[serve\]'"):
        build_page({"good": CLASSES}, segment)
