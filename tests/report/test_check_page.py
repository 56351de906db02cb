"""The page of `atrous check` in a browser: whole, offline, accessible, and narrow too."""

import io
import re

import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from PIL import Image

from atrous.data.shapes import write_shapes
from atrous.doctor import check_dataset
from atrous.report.check_page import render_check_page


@pytest.fixture(scope="module")
def page_file(tmp_path_factory):
    folder = tmp_path_factory.mktemp("page")
    write_shapes(folder / "a <b> set", num_train=10, num_val=4, size_px=64)
    devkit = next(folder.rglob("VOC2012"))
    for path in sorted((devkit / "SegmentationClass").iterdir())[:2]:
        with Image.open(path) as mask:
            mask.convert("RGB").save(path)
    bad = sorted((devkit / "SegmentationClass").iterdir())[3]
    Image.fromarray(np.full((64, 64), 99, np.uint8)).save(bad)
    report = check_dataset(folder / "a <b> set", workers=1)
    assert {"color-masks", "values", "small-for-crop"} <= {f.code for f in report.findings}
    path = folder / "check.html"
    path.write_text(render_check_page(report))
    return path


def test_everything_is_inside_the_file(page_file):
    text = page_file.read_text()
    assert len(text) < 1_000_000
    assert "a &lt;b&gt; set" in text
    assert "<b>" not in text
    for source in re.findall(r'(?:src|href)="([^"]{0,40})', text):
        assert source.startswith("data:")


@pytest.mark.browser
@pytest.mark.parametrize("width", [1280, 400])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_is_accessible_and_nothing_sticks_out(browser, page_file, width, scheme):
    viewport = {"width": width, "height": 900}
    page = browser.new_page(viewport=viewport, color_scheme=scheme, offline=True)
    page.goto(page_file.as_uri())
    assert page.locator("section.card").count() >= 3
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    broken = "[...document.images].filter(i => !i.naturalWidth).length"
    assert page.evaluate(broken) == 0
    page.locator("#values summary").click()
    assert page.locator("#values li").first.is_visible()
    results = Axe().run(page)
    assert results.violations_count == 0, results.generate_report()
    page.close()


@pytest.mark.browser
@pytest.mark.parametrize(("scheme", "card"), [("light", (246, 247, 249)), ("dark", (29, 33, 38))])
def test_examples_have_the_background_of_the_page(browser, page_file, scheme, card):
    """Between and beside the images there is the colour of the card, in dark mode too."""
    page = browser.new_page(color_scheme=scheme)
    page.goto(page_file.as_uri())
    with Image.open(io.BytesIO(page.locator("#values .examples").screenshot())) as image:
        pixels = np.asarray(image.convert("RGB"))
    assert (pixels[-1, -1] == card).all()
    assert (pixels == card).all(axis=-1).mean() > 0.2
    page.close()
