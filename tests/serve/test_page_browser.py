"""The page in a real browser: display, controls, requests and errors.

The predictions of the model are known: the class is the hundreds of a grey value, and the
confidence grows from left to right.
"""

import base64
import io
import json
import threading
import urllib.error
import urllib.request

import numpy as np
import pytest
import torch
from axe_playwright_python.sync_playwright import Axe
from PIL import Image, features

from atrous.classes import build_classes
from atrous.engines import Engine
from atrous.errors import DataError, WeightsError
from atrous.models import ModelCard
from atrous.serve.app import build_app
from atrous.serve.limits import Limits
from atrous.serve.listening import open_socket
from atrous.serve.page import build_page
from atrous.serve.server import Server
from atrous.serve.service import Service

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
    server, listener = Server(service, app), open_socket("127.0.0.1", 0)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    server.should_exit = True
    thread.join(20)
    assert not thread.is_alive()
    service.stop()


@pytest.fixture
def page(address, browser):
    """The page with the result for `GREYS`, at half opacity."""
    page = browser.new_page(viewport={"width": 1280, "height": 900}, has_touch=True)
    page.problems, page.requests = [], []
    page.on("console", lambda message: page.problems.append(message.text))
    page.on("pageerror", lambda error: page.problems.append(str(error)))
    page.on("request", lambda request: page.requests.append(request.url))
    page.goto(address)
    page.get_by_text("good: grey").wait_for()
    give(page, "greys.png", encode(GREYS))
    expect_status(page, "greys.png: 3 classes, 80 × 60")
    yield page
    page.close()


def give(page, *names_and_contents):
    names, contents = names_and_contents[::2], names_and_contents[1::2]
    page.set_input_files(
        ".file",
        [
            {"name": name, "buffer": content,
             "mimeType": {"a.gif": "image/gif", "a.avif": "image/avif"}.get(name, "image/png")}
            for name, content in zip(names, contents, strict=True)
        ],
    )  # fmt: skip


def expect_status(page, text):
    page.locator(f".status:has-text('{text}')").wait_for()


def expect_error(page, text):
    page.locator(f"[role=alert]:has-text('{text}')").wait_for()


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


def locate(page, x, y):
    """Position in the window of a pixel of the image of 80 × 60."""
    script = """async ([x, y]) => {
        const { toStage } = await import("./viewer.js");
        const box = document.querySelector(".stage").getBoundingClientRect();
        const [left, top] = toStage(x, y);
        return [box.left + left, box.top + top];
    }"""
    return page.evaluate(script, [(x + 0.5) / 80, (y + 0.5) / 60])


def read_pixel(page, x, y):
    """Wait until the canvas is drawn, then read the colour of a pixel of the image."""
    script = """([x, y]) => new Promise((resolve) => requestAnimationFrame(() => setTimeout(() => {
        const canvas = document.querySelector(".stage canvas");
        const box = canvas.getBoundingClientRect();
        const copy = new OffscreenCanvas(1, 1).getContext("2d");
        copy.drawImage(canvas, Math.round(box.left - x), Math.round(box.top - y));
        resolve([...copy.getImageData(0, 0, 1, 1).data.slice(0, 3)]);
    })))"""
    return page.evaluate(script, locate(page, x, y))


def measure(page):
    """Pixels of the window per pixel of the image."""
    return locate(page, 1, 0)[0] - locate(page, 0, 0)[0]


def near(*color):
    return pytest.approx(list(color), abs=3)


def test_opacity_outlines_and_comparison_change_the_overlay(page):
    assert read_pixel(page, 40, 5) == near(10, 10, 10)  # a black class does not hide the image
    assert read_pixel(page, 40, 50) == near(105, 105, 232)
    page.focus(".opacity input")
    page.keyboard.press("End")
    assert page.inner_text(".opacity output") == "100 %"
    assert read_pixel(page, 40, 50) == near(0, 0, 255)
    page.click(".outline")
    assert read_pixel(page, 40, 50) == near(210, 210, 210)
    assert read_pixel(page, 40, 39) == near(255, 0, 0)  # the last row of red
    page.click(".fill")
    page.click(".compare")
    assert read_pixel(page, 10, 50) == near(210, 210, 210)
    assert read_pixel(page, 70, 50) == near(0, 0, 255)
    page.focus(".wipe")
    page.keyboard.press("Home")
    assert read_pixel(page, 10, 50) == near(0, 0, 255)
    left, top = locate(page, 70, 30)
    grip = page.locator(".wipe").bounding_box()
    page.mouse.move(grip["x"] + 22, top)
    page.mouse.down()
    page.mouse.move(left, top, steps=4)
    page.mouse.up()
    assert read_pixel(page, 60, 50) == near(210, 210, 210)


def test_the_legend_hides_isolates_and_highlights_classes(page):
    page.locator(".opacity input").fill("100")
    page.get_by_label("Show blue").focus()
    page.keyboard.press("Space")
    assert read_pixel(page, 40, 50) == near(210, 210, 210)
    blue = page.get_by_role("button", name="blue")
    blue.focus()
    page.keyboard.press("Enter")
    assert blue.get_attribute("aria-pressed") == "true"
    assert read_pixel(page, 40, 50) == near(0, 0, 255)
    assert read_pixel(page, 40, 30) == near(110, 110, 110)
    blue.click()
    page.mouse.move(5, 5)
    assert read_pixel(page, 40, 50) == near(210, 210, 210)  # still hidden
    assert read_pixel(page, 40, 30) == near(255, 0, 0)
    blue.hover()
    assert read_pixel(page, 40, 50) == near(0, 0, 255)
    assert read_pixel(page, 40, 30) == near(139, 88, 88)  # faint
    page.get_by_role("button", name="black").hover()
    assert read_pixel(page, 40, 5) == near(0, 0, 0)


def test_the_legend_lists_the_classes_with_their_shares(page):
    give(page, "part.png", encode(GREYS[15:]))
    expect_status(page, "part.png: 3 classes, 80 × 45")
    rows = page.locator(".classes li").all_inner_texts()
    shares = [20 / 45, 20 / 45, 5 / 45]
    names = [NAMES[1], NAMES[2], NAMES[0]]
    assert [row.split("\n") for row in rows] == [
        [name, f"{100 * share:.1f} %"] for name, share in zip(names, shares, strict=True)
    ]
    give(page, "one.png", encode(GREYS[40:]))
    expect_status(page, "one.png: 1 class, 80 × 20")
    assert page.inner_text(".absent") == f"Not in this image: black, {NAMES[1]}."


def test_the_mouse_zooms_pans_and_shows_class_and_confidence(page):
    page.mouse.move(*locate(page, 79, 55))
    assert page.inner_text(".tip") == "blue, confidence over 99 %"
    fitted, place = measure(page), locate(page, 20, 30)
    page.mouse.move(*place)
    page.mouse.wheel(0, -100)
    page.mouse.wheel(0, -100)
    page.wait_for_function("document.querySelector('.stage.zoomed')")
    assert measure(page) > 1.9 * fitted
    assert locate(page, 20, 30) == pytest.approx(place, abs=1)  # zoomed around the mouse
    page.mouse.down()
    page.mouse.move(place[0] + 50, place[1] + 40)
    page.mouse.up()
    assert locate(page, 20, 30) == pytest.approx([place[0] + 50, place[1] + 40], abs=1)
    page.mouse.move(*locate(page, 25, 30))
    assert page.inner_text(".tip") == f"{NAMES[1]}, confidence 66 %"
    page.click(".zoom-fit")
    assert measure(page) == pytest.approx(fitted)
    page.mouse.move(0, 0)
    assert not page.is_visible(".tip")


def test_the_keyboard_zooms_and_moves_a_pointer_that_is_read_aloud(page):
    page.focus(".stage canvas")
    fitted = measure(page)
    for key in ("Shift+ArrowDown", "Shift+ArrowDown", "ArrowLeft"):
        page.keyboard.press(key)
    assert page.inner_text(".tip") == page.text_content(".spoken") == "blue, confidence 75 %"
    for _ in range(4):
        page.keyboard.press("+")
    assert measure(page) == pytest.approx(1.5**4 * fitted)
    for _ in range(60):
        page.keyboard.press("Shift+ArrowRight")  # beyond the visible part, which follows
    assert page.inner_text(".tip") == "blue, confidence over 99 %"
    stage, spot = (page.locator(one).bounding_box() for one in (".stage", ".spot"))
    assert stage["x"] <= spot["x"] <= stage["x"] + stage["width"]
    page.keyboard.press("0")
    assert measure(page) == pytest.approx(fitted)


def test_fingers_pinch_pan_and_tap(page):
    page.set_viewport_size({"width": 390, "height": 844})
    fitted, (x, y) = measure(page), locate(page, 40, 50)
    page.touchscreen.tap(x, y)
    assert page.inner_text(".tip") == "blue, confidence 75 %"
    client = page.context.new_cdp_session(page)

    def touch(kind, *places):
        points = [{"x": x, "y": y, "id": index} for index, (x, y) in enumerate(places)]
        client.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    touch("touchStart", (x - 20, y), (x + 20, y))
    for reach in (30, 40, 60):
        touch("touchMove", (x - reach, y), (x + reach, y))
    touch("touchEnd")
    assert measure(page) == pytest.approx(3 * fitted, rel=0.1)
    place = locate(page, 40, 50)
    touch("touchStart", (x, y))
    touch("touchMove", (x + 15, y))
    touch("touchMove", (x + 30, y - 20))
    touch("touchEnd")
    moved = locate(page, 40, 50)
    assert moved[0] - place[0] == pytest.approx(30, abs=3)
    assert page.evaluate("scrollY") == 0


def test_downloads_are_exact(page):
    page.click(".zoom-in")
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
    assert overlay[50, 40, :3].tolist() == near(105, 105, 232)
    with page.expect_download() as download:
        page.click(".save-json")
    assert download.value.suggested_filename == "greys.json"
    content = json.loads(download.value.path().read_text())
    assert [one["area"] for one in content["annotations"]] == [1600] * 3


def test_several_images_are_kept_with_their_results(page):
    page.evaluate("scrollTo(0, 40)")
    scroll = page.evaluate("scrollY")
    give(page, "two.png", encode(GREYS[:40]), "notes.txt", b"text", "one.png", encode(GREYS[:20]))
    expect_status(page, "two.png: 2 classes, 80 × 40")
    expect_error(page, "notes.txt is not an image the browser can read")
    page.locator(".strip li").nth(2).wait_for()
    page.get_by_role("button", name="one.png", exact=True).click()
    expect_status(page, "one.png: 1 class")
    num_requests = len(page.requests)
    page.get_by_role("button", name="greys.png", exact=True).click()
    expect_status(page, "greys.png: 3 classes")
    assert read_pixel(page, 40, 50) == near(105, 105, 232)
    assert len(page.requests) == num_requests
    assert page.evaluate("scrollY") == scroll
    for name in ("greys.png", "two.png", "one.png"):
        page.get_by_role("button", name=f"Remove {name}").focus()
        page.keyboard.press("Enter")
    page.locator(".drop").wait_for()
    assert page.is_visible(".known")


def test_images_are_dropped_pasted_photographed_and_chosen_from_examples(page):
    turned = Image.Exif()
    turned[0x0112] = 6
    transfer(page, "drop", encode(GREYS, "JPEG", exif=turned), "upright.jpg")
    expect_status(page, "upright.jpg: 3 classes, 60 × 80")
    transfer(page, "paste", encode(GREYS[:30], "JPEG"), "pasted.jpg")
    expect_status(page, "pasted.jpg: 2 classes, 80 × 30")
    page.get_by_role("button", name="Example example.png").click()
    expect_status(page, "example.png: 3 classes, 40 × 60")
    page.click(".take")
    page.locator("dialog[open]").wait_for()
    page.keyboard.press("Escape")
    assert not page.is_visible("dialog")
    page.reload()
    with page.expect_file_chooser():
        page.locator(".drop").press("Enter")


@pytest.mark.parametrize(
    ("content", "name", "words"),
    [
        (b"words", "notes.txt", "notes.txt is not an image the browser can read"),
        (b"", "empty.png", "empty.png is not an image the browser can read"),
        (encode(np.zeros((200, 100), np.uint8)), "large.png", "large.png is too large: 100 × 200"),
        (bytes(70_000), "heavy.png", "heavy.png is too large: 0.1 MB"),
    ],
    ids=["text", "empty", "many pixels", "many bytes"],
)
def test_an_invalid_file_is_rejected_and_the_result_stays(page, content, name, words):
    give(page, name, content)
    expect_error(page, words)
    expect_status(page, "greys.png: 3 classes")
    assert read_pixel(page, 40, 50) == near(105, 105, 232)
    give(page, "good.png", encode(GREYS))
    expect_status(page, "good.png: 3 classes")
    assert not page.is_visible("[role=alert]")


@pytest.mark.parametrize("model", ["invalid", "broken"])
def test_a_failing_model_is_reported_and_the_result_stays(page, model):
    page.select_option(".model select", model)
    expect_error(page, "Something went wrong on the server")
    assert "secret" not in page.content()
    assert page.get_attribute(".stage", "aria-busy") == "false"
    assert page.input_value(".model select") == "good"
    assert read_pixel(page, 40, 50) == near(105, 105, 232)


@pytest.mark.parametrize(
    ("status", "words"),
    [(None, "does not respond"), (415, "other.png: This is not an image the server can read"),
     (429, "Try again in 7 seconds"), (504, "longer than the server allows")],
)  # fmt: skip
def test_a_server_that_fails_is_reported_in_plain_words(page, status, words):
    def answer(route):
        if status is None:
            route.abort()
        else:
            route.fulfill(status=status, headers={"Retry-After": "7"}, json={"error": "API"})

    page.route("**/v1/segment*", answer)
    give(page, "other.png", encode(GREYS))
    expect_error(page, words)
    expect_status(page, "greys.png: 3 classes")
    assert page.locator(".strip li").count() == 1


def test_waiting_shows_the_time_and_can_be_cancelled(page):
    page.route("**/v1/segment*", lambda route: None)  # never answered
    give(page, "slow.png", encode(GREYS[:40]), "next.png", encode(GREYS))
    page.locator(".busy:has-text('s, 1 image waiting')").wait_for()
    assert page.get_attribute(".stage", "aria-busy") == "true"
    page.get_by_role("button", name="Cancel").click()
    expect_status(page, "greys.png: 3 classes")
    assert page.locator(".strip li").count() == 1
    assert not page.is_visible(".busy")
    assert not page.is_visible("[role=alert]")


@pytest.mark.parametrize("suffix", ["gif", "avif"])
def test_a_format_that_the_server_does_not_support_is_converted(page, suffix):
    if suffix == "avif" and not features.check("avif"):
        pytest.skip("this Pillow does not write AVIF")
    give(page, f"a.{suffix}", encode(GREYS, suffix))
    expect_status(page, f"a.{suffix}: 3 classes, 80 × 60")
    assert read_pixel(page, 40, 50) == near(105, 105, 232)


def test_the_command_of_the_page_works(page, address):
    page.click("summary")
    command = page.inner_text(".api code")
    assert "curl --data-binary @photo.jpg" in command
    assert f"'{address}/v1/segment?model=good'" in command
    assert fetch(f"{address}/v1/segment?model=good", encode(GREYS))[1].startswith(b"\x89PNG")
    page.click(".copy")
    page.get_by_text("Copied").wait_for()
    assert fetch(f"{address}/{page.get_attribute('.api a', 'href')}")[0] == 200


def test_the_page_is_accessible_and_fits_the_viewport(page):
    give(page, "notes.txt", b"words")
    expect_error(page, "notes.txt")
    page.click("summary")
    page.click(".compare")
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        for width in (360, 390, 1280):
            page.set_viewport_size({"width": width, "height": 800})
            violations = Axe().run(page).response["violations"]
            found = [(one["id"], node["html"][:200]) for one in violations for node in one["nodes"]]
            assert not found, (scheme, width)
            assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.reload()
    page.locator(".drop").wait_for()
    assert not Axe().run(page).response["violations"]


def test_the_browser_asks_for_the_token(serve, browser):
    running = serve(token="s3cret", page=build_page(LIMITS), engine=GreyEngine())
    credentials = {"username": "anybody", "password": "s3cret"}  # typed into its dialog
    with browser.new_context(http_credentials=credentials) as context:
        page = context.new_page()
        page.goto(f"http://127.0.0.1:{running.port}")
        page.get_by_text("colors: grey").wait_for()
        give(page, "greys.png", encode(GREYS))
        expect_status(page, "greys.png: 3 classes, 80 × 60")


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
