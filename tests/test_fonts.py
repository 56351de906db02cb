import warnings

import matplotlib.font_manager
import numpy as np
import pytest
import torch
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen

from atrous.classes import build_classes
from atrous.figures import render_inline_svg, save_figure
from atrous.figures.confusion import build_confusion_map
from atrous.figures.style import build_axes
from atrous.fonts import MAX_SPELLED, find_default_font, find_font, list_families, spell
from atrous.prediction.render import render_overlay

NAMES = "背景", "物体"
FAMILY = "Aaa Two Squares"


def build_font(path, letters: str) -> None:
    """Write a font in which every letter is a square, of a size of its own."""
    glyphs = [f"g{ord(letter)}" for letter in letters]
    builder = FontBuilder(1000)
    builder.setupGlyphOrder([".notdef", *glyphs])
    builder.setupCharacterMap(
        {ord(letter): name for letter, name in zip(letters, glyphs, strict=True)}
    )
    shapes = {".notdef": TTGlyphPen(None).glyph()}
    for number, name in enumerate(glyphs, start=2):
        pen = TTGlyphPen(None)
        pen.moveTo((0, 0))
        for corner in ((0, 100 * number), (100 * number, 100 * number), (100 * number, 0)):
            pen.lineTo(corner)
        pen.closePath()
        shapes[name] = pen.glyph()
    builder.setupGlyf(shapes)
    builder.setupHorizontalMetrics(dict.fromkeys(shapes, (1000, 0)))
    builder.setupHorizontalHeader(ascent=800, descent=-200)
    builder.setupNameTable({"familyName": FAMILY, "styleName": "Regular"})
    builder.setupOS2()
    builder.setupPost()
    builder.save(path)


@pytest.fixture
def fonts(monkeypatch):
    """No font but matplotlib's own, and a way to install another."""
    manager = matplotlib.font_manager.fontManager
    own = [font for font in manager.ttflist if "matplotlib" in font.fname]
    assert any("LastResort" in font.fname for font in own)  # it claims to have every letter
    monkeypatch.setattr(manager, "ttflist", own)
    find_font.cache_clear()
    yield manager
    find_font.cache_clear()


def draw(names) -> np.ndarray:
    image = torch.zeros(3, 64, 256, dtype=torch.uint8)
    mask = torch.arange(2, dtype=torch.uint8).repeat_interleave(128).expand(64, 256)
    return np.asarray(render_overlay(image, mask, build_classes(names)))


def test_latin_needs_no_other_font(fonts):
    assert find_font("Straße éß Ωж 1") == find_default_font()
    assert find_font("") == find_default_font()
    assert list_families(["road", "sky"]) == ["DejaVu Sans"]


def test_a_font_that_has_the_letters_is_found(fonts, tmp_path):
    assert find_font(NAMES[0]) is None
    build_font(tmp_path / "squares.ttf", "".join(NAMES))
    fonts.addfont(tmp_path / "squares.ttf")
    find_font.cache_clear()
    assert find_font(NAMES[0]) == tmp_path / "squares.ttf"
    assert find_font("前景") is None
    assert list_families([*NAMES, "road"]) == ["DejaVu Sans", FAMILY]
    figure = build_confusion_map(np.eye(2), NAMES)
    assert FAMILY in figure.axes[0].get_xticklabels()[0].get_fontfamily()


def test_legends_tell_classes_apart_with_and_without_a_font(fonts, tmp_path):
    without = draw(NAMES)
    assert without.shape != (other := draw(("前景", "道路"))).shape or (without != other).any()
    build_font(tmp_path / "squares.ttf", "".join(NAMES))
    fonts.addfont(tmp_path / "squares.ttf")
    find_font.cache_clear()
    assert draw(NAMES[::-1]).shape != without.shape


def test_names_that_cannot_be_drawn_are_spelled():
    assert spell("A 背景, b") == "A U+80CC U+666F , b"
    long = "背" * 30 + "景"
    assert len(spell(long)) <= MAX_SPELLED + 1
    assert spell(long).endswith("U+666F")


def test_figures_spell_what_no_font_has_and_nothing_is_warned_of(fonts, tmp_path):
    figure, axes = build_axes(1.0)
    title = axes.set_title(NAMES[0])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert NAMES[0] in render_inline_svg(figure, "a figure")
        save_figure(figure, tmp_path / "figure.png")
    assert title.get_text() == spell(NAMES[0])
