"""Pages in a browser: light and dark, wide and narrow, by keyboard, on paper."""

import shutil

import pytest
from axe_playwright_python.sync_playwright import Axe

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


def list_visible_layers(page):
    return page.eval_on_selector_all(
        "#run1-images .stack:first-child img.layer",
        "layers => layers.filter((one) => one.offsetParent).map((one) => one.className)",
    )


def test_layers_are_switched_and_faded_by_keyboard(browser, page_path):
    page = open_page(browser, page_path)
    assert set(list_visible_layers(page)) == {"layer prediction"}
    page.focus("#run1-images input[value=prediction]")
    page.keyboard.press("ArrowRight")
    assert set(list_visible_layers(page)) == {"layer errors"}
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    assert not list_visible_layers(page)
    page.focus("#run1-images input[type=range]")
    page.keyboard.press("End")
    mix = "getComputedStyle(document.querySelector('{} .ground-truth')).opacity"
    assert page.evaluate(mix.format("#run1-images")) == "1"
    assert page.evaluate(mix.format("#run2-images")) == "0.6"
    page.close()


def test_on_paper_everything_is_there_at_once(browser, page_path):
    page = open_page(browser, page_path, color_scheme="dark")
    page.emulate_media(media="print")
    assert len(set(list_visible_layers(page))) == 4
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert not page.is_visible("#run1-images .controls")
    assert page.pdf().startswith(b"%PDF")
    page.close()
