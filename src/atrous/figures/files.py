"""Figures as files for papers, and as SVG inside a page."""

import hashlib
import io
import re
import warnings
from functools import partial
from pathlib import Path

import matplotlib
from matplotlib.figure import Figure
from matplotlib.text import Text

from atrous.figures.style import CSS_VARIABLES, STYLE
from atrous.files import write_atomically
from atrous.fonts import find_font, spell

_NO_DATE = {"png": {"Software": None}, "svg": {"Date": None}, "pdf": {"CreationDate": None}}


def save_figure(figure: Figure, path: Path, *, dpi: int = 200) -> Path:
    """Write a figure as PNG, SVG or PDF, as the suffix says, whole or not at all.

    The same figure always gives the same bytes. Texts that no installed font has the letters of are
    spelled in code points.
    """
    format = path.suffix[1:]
    save = partial(figure.savefig, format=format, dpi=dpi, metadata=_NO_DATE[format])
    for text in figure.findobj(Text):
        if find_font(text.get_text()) is None:
            text.set_text(spell(text.get_text()))
    with matplotlib.rc_context(STYLE):
        write_atomically(path, save)
    return path


def render_inline_svg(figure: Figure, label: str, key: str = "") -> str:
    """Return a figure as SVG to put into HTML.

    The background is transparent, text is text in the font of the page, and the colours of
    `style.py` are CSS variables with the colour itself as fallback.

    Args:
        label: What the figure shows, in words, for those who cannot see it.
        key: Tells figures of the same content on one page apart, for their ids.
    """
    file = io.StringIO()
    with matplotlib.rc_context({**STYLE, "svg.fonttype": "none"}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # the page has fonts of its own
        figure.savefig(file, format="svg", transparent=True, metadata={"Date": None})
    text = file.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>|<!--.*?-->", "", text, flags=re.S)
    text = re.sub(r"(\bfont: [^;\"]*?\d[\d.]*px)[^;\"]*", r"\1 var(--font)", text)
    text = re.sub(r"\bfont-family: [^;\"]*", "font-family: var(--font)", text)
    for color, name in CSS_VARIABLES.items():
        text = text.replace(color, f"var({name}, {color})")
    # Ids are unique on the page, whatever other figures it holds.
    prefix = "f" + hashlib.sha256((key + text).encode()).hexdigest()[:8]
    text = re.sub(r'\bid="|\bhref="#|url\(#', lambda match: f"{match[0]}{prefix}-", text)
    size, _, body = text.partition(">")
    view_box = re.search(r'viewBox="[^"]*"', size)
    assert view_box is not None
    return f'<svg {view_box[0]} role="img" aria-label="{_escape(label)}">{body}'


def _escape(text: str) -> str:
    return text.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;")
