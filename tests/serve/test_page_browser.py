"""The page in a real browser: display, controls, requests and errors.

The predictions of the model are known: the class is the hundreds of a grey value, and the
confidence grows from left to right.
"""

import base64
import io
import threading
import urllib.error
import urllib.request

import numpy as np
import pytest
import torch
from axe_playwright_python.sync_playwright import Axe
from PIL import Image

from atrous.classes import build_classes
from atrous.engines import Engine
from atrous.errors import DataError, WeightsError
from atrous.models import ModelCard
from atrous.serve import Limits, Service
from atrous.serve.app import build_app
from atrous.serve.listening import open_socket
from atrous.serve.page import build_page
from atrous.serve.server import build_server

pytestmark = pytest.mark.browser

NAMES = ["black", "red & <b>bold</b>", "blue"]
CLASSES = build_classes(NAMES, [[0, 0, 0], [255, 0, 0], [0, 0, 255]])
GREYS = np.repeat(np.uint8([10, 110, 210]), 20)[:, None].repeat(80, axis=1)
LIMITS = Limits(max_pixels=10_000, max_body_bytes=2**16)


class GreyEngine(Engine):
    """Predicts the hundreds of a grey value, or raises an error."""

    def __init__(self, error: Exception | None = None) -> None:
        card = ModelCard("grey", {}, CLASSES, (0.5,) * 3, (0.5,) * 3, None, {})
        super().__init__(card, name="grey", precision="32", device=torch.device("cpu"))
        self.error = error

    def iterate_weights(self):
        yield b""

    def _forward(self, image):
        if self.error is not None and image.any():  # not at the start
            raise self.error
        probs = torch.linspace(0.5, 1 - 1e-6, image.shape[2]).expand(image.shape[1:])
        logits = ((1 - probs) / 2).log().repeat(3, 1, 1)
        return logits.scatter(0, (image[:1] // 100).long(), probs.log()[None])


def encode(pixels, suffix="PNG", **options):
    file = io.BytesIO()
    Image.fromarray(pixels).convert("RGB").save(file, suffix, **options)
    return file.getvalue()


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    """A running server with the page."""
    examples = tmp_path_factory.mktemp("examples")
    (examples / "example.png").write_bytes(encode(GREYS[:, :40]))
    engines = {
        "good": GreyEngine(),
        "invalid": GreyEngine(WeightsError("The weights are damaged.")),
        "broken": GreyEngine(RuntimeError("a secret of the server")),
    }
    sources = {name: lambda engine=engine: engine for name, engine in engines.items()}
    service = Service(sources, LIMITS)
    service.load()
    app = build_app(service, page=build_page(LIMITS, examples))
    server, listener = build_server(service, app), open_socket("127.0.0.1", 0)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    server.should_exit = True
    thread.join(20)
    assert not thread.is_alive()
    service.stop()


@pytest.fixture(scope="module")
def opened(address, browser):
    """The page, loaded once in a browser, with its requests and console messages."""
    page = browser.new_page()
    page.problems, page.requests = [], []
    page.on("console", lambda message: page.problems.append(message.text))
    page.on("pageerror", lambda error: page.problems.append(str(error)))
    page.on("request", lambda request: page.requests.append(request.url))
    page.goto(address)
    page.get_by_text("This model has 3 classes").wait_for()
    yield page
    page.close()


@pytest.fixture
def page(opened):
    """The page with the result for `GREYS`, at half opacity."""
    opened.select_option(".model select", "good")
    opened.set_viewport_size({"width": 1280, "height": 900})
    give(opened, encode(GREYS), "greys.png")
    opened.locator(".opacity input").fill("50")
    opened.locator(".status:has-text('80 × 60')").wait_for()
    return opened


def give(page, content, name):
    page.set_input_files(".file", {"name": name, "mimeType": "image/png", "buffer": content})


def transfer(page, kind, content, name):
    """Drop or paste a file."""
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
    """Wait until the canvas is drawn, then read a pixel of it."""
    script = """([x, y]) => new Promise((resolve) => requestAnimationFrame(() => setTimeout(() => {
        const copy = new OffscreenCanvas(1, 1).getContext("2d");
        copy.drawImage(document.querySelector(".atrous canvas"), -x, -y);
        resolve([...copy.getImageData(0, 0, 1, 1).data.slice(0, 3)]);
    })))"""
    return page.evaluate(script, [x, y])


def test_opacity_and_legend_change_the_overlay(page):
    assert read_pixel(page, 40, 5) == [10, 10, 10]  # a black class does not hide the image
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


def test_the_legend_lists_the_classes_with_their_shares(page):
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


def test_the_pointer_shows_class_and_confidence(page):
    box = page.locator(".atrous canvas").bounding_box()
    page.mouse.move(box["x"] + 0.999 * box["width"], box["y"] + 0.9 * box["height"])
    assert page.inner_text(".tip") == "blue, confidence over 99 %"
    page.mouse.move(box["x"] + 2, box["y"] + 0.5 * box["height"])
    assert page.inner_text(".tip") == f"{NAMES[1]}, confidence 50 %"
    page.mouse.move(0, 0)
    assert not page.is_visible(".tip")


def test_the_pointer_is_moved_by_keyboard_and_read_aloud(page):
    page.focus(".atrous canvas")
    page.keyboard.press("Shift+ArrowDown")
    page.keyboard.press("Shift+ArrowDown")
    page.keyboard.press("ArrowLeft")
    assert page.inner_text(".tip") == page.text_content(".spoken") == "blue, confidence 75 %"


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


def test_images_are_dropped_pasted_photographed_and_chosen_from_examples(page):
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
    page.locator("dialog[open]").wait_for()
    page.keyboard.press("Escape")
    assert not page.is_visible("dialog")


@pytest.mark.parametrize(
    ("content", "name", "words"),
    [
        (b"words", "notes.txt", "notes.txt is not an image"),
        (b"", "empty.png", "empty.png is not an image"),
        (encode(np.zeros((200, 100), np.uint8)), "large.png", "large.png is too large: 100 × 200"),
        (bytes(70_000), "heavy.png", "heavy.png is too large: 0.1 MB"),
    ],
    ids=["text", "empty", "many pixels", "many bytes"],
)
def test_an_invalid_file_is_rejected_with_a_message(page, content, name, words):
    give(page, content, name)
    page.locator(f"[role=alert]:has-text('{words}')").wait_for()
    assert page.inner_text(".status") == ""
    give(page, encode(GREYS), "good.png")
    page.locator(".status:has-text('good.png: 3 classes')").wait_for()
    assert not page.is_visible("[role=alert]")


@pytest.mark.parametrize("model", ["invalid", "broken"])
def test_a_failing_model_is_reported_and_the_result_stays(page, model):
    problems = list(page.problems)
    page.select_option(".model select", model)
    page.locator("[role=alert]:has-text('Internal error')").wait_for()
    assert "secret" not in page.content()
    assert not page.locator(".atrous[aria-busy]").count()
    assert read_pixel(page, 40, 50) == pytest.approx([105, 105, 232], abs=2)
    page.problems[:] = problems  # the browser logs the 500


def test_a_server_that_does_not_respond_is_reported(page):
    problems = list(page.problems)
    page.route("**/v1/segment*", lambda route: route.abort())
    give(page, encode(GREYS), "other.png")
    page.locator("[role=alert]:has-text('does not respond')").wait_for()
    page.unroute_all()
    page.problems[:] = problems  # the browser logs it


def test_a_format_that_the_server_does_not_support_is_converted(page):
    page.set_input_files(
        ".file", {"name": "a.gif", "mimeType": "image/gif", "buffer": encode(GREYS, "GIF")}
    )
    page.locator(".status:has-text('a.gif: 3 classes, 80 × 60')").wait_for()


def test_the_page_is_accessible_and_fits_the_viewport(page):
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


def test_the_page_requests_no_other_host_and_logs_no_problem(page, address):
    hosts = {url.split("/")[2] for url in page.requests if url.startswith("http")}
    assert hosts == {address.removeprefix("http://")}
    assert not page.problems
    blocked = """new Promise((resolve) => {
        document.addEventListener("securitypolicyviolation", (event) => resolve(event.blockedURI));
        fetch("http://elsewhere.invalid/").catch(() => {});
    })"""
    assert page.evaluate(blocked) == "http://elsewhere.invalid/"


def fetch(url, body=None, **headers):
    request = urllib.request.Request(url, body, headers)
    try:
        with urllib.request.urlopen(request) as response:
            return response.status, response.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def test_only_scripts_of_the_server_are_allowed(address):
    with urllib.request.urlopen(address) as response:
        policy = response.headers["Content-Security-Policy"]
    assert "script-src 'self';" in policy
    assert "unsafe" not in policy
    for path in ("examples/1", "examples/-1", "examples/..%2f..%2fpage.py", "service.py"):
        assert fetch(f"{address}/{path}")[0] in (404, 422), path


def test_invalid_examples_are_rejected(tmp_path):
    with pytest.raises(DataError, match="no images in the folder"):
        build_page(LIMITS, tmp_path)
    (tmp_path / "torn.png").write_bytes(encode(GREYS)[:-40])
    with pytest.raises(DataError, match=r"torn.png cannot be used"):
        build_page(LIMITS, tmp_path)
