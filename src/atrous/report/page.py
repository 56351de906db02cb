"""Pages from templates: one HTML file with everything in it, that opens offline."""

import base64
import io
import math
from functools import cache
from importlib.metadata import version
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from matplotlib.figure import Figure
from PIL import Image

from atrous.errors import AtrousError
from atrous.figures.files import render_inline_svg
from atrous.files import write_atomically

NOTHING = "–"
"""Stands where there is no value."""

_LOSSY_MODES = ("RGB", "YCbCr", "CMYK")


def render_page(template: str, **context: object) -> str:
    """Fill a template of this folder.

    Everything put into a page is escaped. A template extends `base.html`, which has the blocks
    `title`, `style`, `heading` and `main` and the looks, in light, dark and print. Filters:

    - `score`: 0.5791 as 0.579; `percent`: 57.9 %; `number`: 12,345. None becomes a dash.
    - `data_uri`: a PIL picture as the `src` of an `<img>`.
    - `svg`: a matplotlib figure as inline SVG, in colours that follow light and dark; its argument
      says in words what the figure shows.

    Args:
        template: File name in `report/templates`.
        context: The template's variables; one that is missing is an error.

    Returns:
        HTML without any reference to another file or host.
    """
    return _build_environment().get_template(template).render(**context)


def save_page(path: Path, html: str) -> None:
    """Write a page, whole or not at all.

    Raises:
        AtrousError: The file cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, lambda file: file.write(html.encode(errors="backslashreplace")))
    except OSError as error:
        raise AtrousError(
            f"The page cannot be written to {path}: {error.strerror or error}. Free space, or name "
            "another file."
        ) from error


def format_score(value: float | None, digits: int = 3) -> str:
    """Write a score from 0 to 1 with a fixed number of digits; None and NaN as a dash."""
    return NOTHING if value is None or math.isnan(value) else f"{value:.{digits}f}"


def format_percent(value: float | None, digits: int = 1) -> str:
    """Write a share from 0 to 1 in percent; None and NaN as a dash."""
    return NOTHING if value is None or math.isnan(value) else f"{100 * value:.{digits}f} %"


def format_number(value: float | None) -> str:
    """Write a count with separators between thousands; None as a dash."""
    return NOTHING if value is None else f"{value:,}"


def format_data_uri(picture: Image.Image, quality: int = 85) -> str:
    """Return a picture as a data URI: colours as JPEG, all else (palette, grey, alpha) as PNG."""
    lossy, file = picture.mode in _LOSSY_MODES, io.BytesIO()
    if lossy:
        picture.convert("RGB").save(file, format="JPEG", quality=quality, optimize=True)
    else:
        picture.save(file, format="PNG", optimize=True)
    text = base64.b64encode(file.getvalue()).decode()
    return f"data:image/{'jpeg' if lossy else 'png'};base64,{text}"


def format_svg(figure: Figure, label: str, key: str = "") -> Markup:
    """Return a figure as inline SVG that a screen reader reads as `label`.

    Args:
        key: Tells figures of the same content on one page apart, for their ids.
    """
    return Markup(render_inline_svg(figure, label, key))


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
        "svg": format_svg,
    }
    environment.globals["atrous_version"] = version("atrous")
    return environment
