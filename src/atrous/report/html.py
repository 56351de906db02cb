"""HTML pages from templates, each a single file without external references."""

import base64
import io
import math
import re
from functools import cache
from importlib.metadata import version
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape
from PIL import Image

from atrous.errors import AtrousError
from atrous.figures.files import render_inline_svg
from atrous.files import write_atomically

MISSING = "–"

_QUOTED_PATH = re.compile(r"""(["'])(?:/|~|[A-Za-z]:[\\/])[^"'\n]*[\\/]([^"'\\/\n]+)\1""")
_LOSSY_MODES = ("RGB", "YCbCr", "CMYK")


def render_page(template: str, **context: object) -> str:
    """Render a template.

    All values are escaped; a variable missing in the context is an error. A template extends
    `base.html`, which has the style for light, dark and print. Filters:

    - `score`: 0.5791 as 0.579; `percent`: 57.9 %; `number`: 12,345. None becomes a dash.
    - `prose`: a text with code between backticks; `hide_folders`: see the function.
    - `data_uri`: a PIL image as the `src` of an `<img>`.
    - `svg`: a matplotlib figure as inline SVG in the colours of the page; its argument is the text
      alternative.
    """
    return _build_environment().get_template(template).render(**context)


def save_page(path: Path, html: str) -> None:
    """Save a page atomically; raises AtrousError if the file cannot be written."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, lambda file: file.write(html.encode(errors="backslashreplace")))
    except OSError as error:
        raise AtrousError(
            f"The page cannot be written to {path}: {error.strerror or error}. Free space, or give "
            "another path."
        ) from error


def format_score(value: float | None, digits: int = 3) -> str:
    """Format a score from 0 to 1 with a fixed number of digits; None and NaN as a dash."""
    return MISSING if value is None or math.isnan(value) else f"{value:.{digits}f}"


def format_percent(value: float | None, digits: int = 1) -> str:
    """Format a share from 0 to 1 in percent; None and NaN as a dash."""
    return MISSING if value is None or math.isnan(value) else f"{100 * value:.{digits}f} %"


def format_number(value: float | None) -> str:
    """Format a count with thousands separators; None as a dash."""
    return MISSING if value is None else f"{value:,}"


def format_data_uri(image: Image.Image, subsampling: int = 2) -> str:
    """Return an image as a data URI: RGB as JPEG; palette, grey and alpha as PNG.

    `subsampling` is that of the JPEG's colours, as in Pillow; 0 keeps thin coloured lines.
    """
    format, file, options = "png", io.BytesIO(), {}
    if image.mode in _LOSSY_MODES:
        image, format = image.convert("RGB"), "jpeg"
        options = {"quality": 85, "subsampling": subsampling}
    image.save(file, format=format, optimize=True, **options)
    return f"data:image/{format};base64,{base64.b64encode(file.getvalue()).decode()}"


def hide_folders(text: str, *paths: Path | str) -> str:
    """Shorten absolute paths, which mean nothing to other readers, to `…/NAME`.

    Paths in quotes are found by themselves; `paths` are others that the text may contain.
    """
    for path in sorted(map(Path, paths), key=lambda one: -len(str(one))):
        if path.is_absolute():
            text = text.replace(str(path), f"…/{path.name}")
    return _QUOTED_PATH.sub(r"\1…/\2\1", text)


@cache
def _build_environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("atrous.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "score": format_score,
        "percent": format_percent,
        "number": format_number,
        "data_uri": format_data_uri,
        "prose": lambda text: Markup(re.sub("`([^`]+)`", r"<code>\1</code>", escape(text))),
        "hide_folders": hide_folders,
        "svg": lambda *figure: Markup(render_inline_svg(*figure)),
    }
    environment.globals["atrous_version"] = version("atrous")
    return environment
