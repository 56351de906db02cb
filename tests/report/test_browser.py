"""Pages in a browser: light and dark, wide and narrow, by keyboard, on paper."""

import io
import json
import shutil

import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from PIL import Image

from atrous.evaluation import compare
from atrous.report import save_run_report
from atrous.report.comparison_page import save_comparison_page
from atrous.study import load_study, render_study_page, summarize
from atrous.study.runner import RunOutcome

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def pages(made_run, tmp_path_factory):
    """A report of two runs, so that it holds every part twice; a comparison; a study."""
    base = tmp_path_factory.mktemp("pages")
    report = save_run_report([made_run, made_run], out=base / "report.html", num_images=1)
    save_comparison_page(compare([made_run, made_run]), base / "comparison.html")
    runs = [shutil.copytree(made_run, base / f"run{index}") for index in range(2)]
    study = load_study("report-table1")
    outcomes = [
        RunOutcome(run, 0, folder, "") for run, folder in zip(study.runs, runs, strict=True)
    ]
    outcomes.append(RunOutcome(study.runs[1], 1, base / "none", "ended with exit code 2"))
    (base / "study.html").write_text(render_study_page(summarize(study, outcomes, cost=False)))
    return {path.stem: path for path in (report, *base.glob("*.html"))}


@pytest.fixture(scope="module")
def page_path(pages):
    return pages["report"]


def open_page(browser, path, **options):
    page = browser.new_page(**options)
    page.problems = []
    page.on("console", lambda message: page.problems.append(message.text))
    page.on("pageerror", lambda error: page.problems.append(str(error)))
    page.on("request", lambda request: page.problems.append(request.url))
    page.goto(path.as_uri())
    page.problems = [
        text for text in page.problems if text != path.as_uri() and not text.startswith("data:")
    ]
    return page


@pytest.mark.parametrize("width", [1280, 400])
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", ["report", "comparison", "study"])
def test_it_is_accessible_quiet_and_fits(browser, pages, name, scheme, width):
    size = {"width": width, "height": 900}
    page = open_page(browser, pages[name], viewport=size, color_scheme=scheme)
    page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    widest = page.evaluate("document.documentElement.scrollWidth")
    results = Axe().run(page)
    problems = [
        (violation["id"], [node["html"][:200] for node in violation["nodes"]])
        for violation in results.response["violations"]
    ]
    assert not problems
    assert widest <= width
    assert not page.problems
    page.close()


def list_visible_views(page):
    return page.eval_on_selector_all(
        "#run1-images .row:first-of-type .view",
        "views => views.filter((one) => one.offsetParent).map((one) => one.classList[1])",
    )


def test_layers_are_switched_and_faded_by_keyboard(browser, page_path):
    page = open_page(browser, page_path)
    assert set(list_visible_views(page)) == {"image", "ground-truth", "prediction"}
    page.focus("#run1-images input[value=prediction]")
    page.keyboard.press("ArrowRight")
    assert set(list_visible_views(page)) == {"image", "ground-truth", "errors"}
    page.focus("#run1-images input[type=range]")
    page.keyboard.press("End")
    mix = "getComputedStyle(document.querySelector('{} .ground-truth img')).opacity"
    assert page.evaluate(mix.format("#run1-images")) == "1"
    assert page.evaluate(mix.format("#run2-images")) == "0.6"
    page.close()


def find_boxes(row):
    """Return the places of ground truth and prediction of a row."""
    return [
        row.locator(f".{kind} .overlay").bounding_box() for kind in ("ground-truth", "prediction")
    ]


@pytest.mark.parametrize(("width", "factor"), [(1280, 1.6), (390, 1.8)])
def test_an_image_is_enlarged_with_ground_truth_and_prediction(browser, page_path, width, factor):
    page = open_page(browser, page_path, viewport={"width": width, "height": 900})
    row = page.locator("#run2-images .row").nth(1)
    true, predicted = find_boxes(row)
    assert (true["y"], true["width"]) == (predicted["y"], predicted["width"])
    small_px = true["width"]
    row.locator("button").focus()
    page.keyboard.press("Enter")
    dialog = page.locator("dialog[open]")
    assert dialog.locator(".view:visible").count() == 5
    true, predicted = find_boxes(dialog)
    assert true["width"] > factor * small_px
    assert (true["y"] == predicted["y"]) == (width == 1280)
    caption = dialog.locator("figcaption").inner_text()
    page.keyboard.press("ArrowRight")
    assert dialog.locator("figcaption").inner_text() != caption
    page.keyboard.press("Escape")
    button = page.locator("#run2-images .row").nth(2).locator("button")
    page.wait_for_function("one => one === document.activeElement", arg=button.element_handle())
    assert page.locator(".row").count() == 6
    assert not page.locator("dialog[open]").count()
    assert not page.problems
    page.close()


def test_a_click_on_an_image_enlarges_it_in_any_run(browser, page_path):
    page = open_page(browser, page_path)
    page.locator("#run1-images .overlay").first.click()
    page.locator("dialog button", has_text="previous").click()  # the last of the second run
    assert page.locator("#run2-images dialog[open] .row").count() == 1
    page.locator("dialog button", has_text="close").click()
    page.wait_for_function("!document.querySelector('dialog').open")
    assert page.locator("#run2-images .row").count() == 3
    page.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_table_that_goes_on_has_a_shadow_where_it_is_cut(browser, page_path, scheme):
    """The right edge differs from the page, until the table is scrolled to its end."""
    page = open_page(
        browser, page_path, viewport={"width": 390, "height": 900}, color_scheme=scheme
    )
    frame = page.locator(".scroll").first
    assert frame.evaluate("one => one.scrollWidth > one.clientWidth")

    def compute_contrast():
        with Image.open(io.BytesIO(frame.screenshot())) as image:
            line = np.asarray(image.convert("L"), np.int16)[-12, -8:]
        return abs(line - page_brightness).max()

    page_brightness = 255 if scheme == "light" else 23
    assert compute_contrast() > 40
    frame.evaluate("one => one.scrollTo(one.scrollWidth, 0)")
    page.wait_for_timeout(100)
    assert compute_contrast() < 15
    page.close()


@pytest.mark.parametrize("width", [1280, 390])
def test_long_names_of_classes_wrap(browser, made_run, tmp_path, width):
    run = shutil.copytree(made_run, tmp_path / "run")
    path = run / "evaluation" / "val.json"
    scores = json.loads(path.read_text())
    for index, row in enumerate(scores["per_class"]):
        row["name"] = ("name_without_spaces_" * 9 if index else "many words " * 20) + str(index)
    path.write_text(json.dumps(scores))
    save_run_report([run], num_images=1, device="cpu")
    save_comparison_page(compare([run, run], cost=False), run / "compare.html")
    for name in ("report", "compare"):
        page = open_page(browser, run / f"{name}.html", viewport={"width": width, "height": 900})
        page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        widths = page.eval_on_selector_all(
            "table:not(.prose)", "tables => tables.map((one) => one.offsetWidth)"
        )
        assert max(widths) < 1100
        page.close()


def test_on_paper_everything_is_there_at_once(browser, page_path):
    page = open_page(browser, page_path, color_scheme="dark")
    page.emulate_media(media="print")
    assert len(set(list_visible_views(page))) == 5
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert not page.is_visible("#run1-images .controls")
    assert page.pdf().startswith(b"%PDF")
    page.close()
