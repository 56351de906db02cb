"""Figures as files, and as inline SVG for pages."""

import hashlib
import html
import io
import re
import warnings
from functools import partial
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure
from matplotlib.text import Text

from atrous.errors import AtrousError, ConfigError
from atrous.figures.style import CSS_VARIABLES, STYLE
from atrous.files import write_atomically
from atrous.fonts import find_font, spell

_METADATA: dict[str, Any] = {
    "png": {"Software": None},
    "svg": {"Date": None},
    "pdf": {"CreationDate": None},
}


def save_figure(figure: Figure, path: Path, *, dpi: int = 200) -> Path:
    """Save a figure atomically as PNG, SVG or PDF, by the suffix of the path.

    The same figure always gives the same bytes. Texts that no installed font can draw are spelled
    as code points.

    Raises:
        ConfigError: The suffix is another one.
        AtrousError: The file cannot be written.
    """
    format = path.suffix[1:].lower()
    if format not in _METADATA:
        raise ConfigError(f"The name of a figure ends in .png, .svg or .pdf, unlike {path}.")
    save = partial(figure.savefig, format=format, dpi=dpi, metadata=_METADATA[format])
    for text in figure.findobj(Text):
        if find_font(text.get_text()) is None:
            text.set_text(spell(text.get_text()))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with matplotlib.rc_context(STYLE):
            write_atomically(path, save)
    except OSError as error:
        raise AtrousError(
            f"The figure cannot be written to {path}: {error.strerror or error}. Free space, or "
            "give another path."
        ) from error
    return path


def render_inline_svg(figure: Figure, label: str, key: str = "") -> str:
    """Return a figure as SVG for an HTML page.

    The background is transparent, text uses the font of the page, and the colours of `style.py`
    are CSS variables with the colour itself as fallback. `label` is the text alternative; `key`
    distinguishes the ids of figures with the same content on one page.
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
    # Ids must be unique on the page.
    prefix = "f" + hashlib.sha256((key + text).encode()).hexdigest()[:8]
    text = re.sub(r'\bid="|\bhref="#|url\(#', lambda match: f"{match[0]}{prefix}-", text)
    size, _, body = text.partition(">")
    view_box = re.search(r'viewBox="[^"]*"', size)
    assert view_box is not None
    return f'<svg {view_box[0]} role="img" aria-label="{html.escape(label)}">{body}'
