"""Pages from templates: one HTML file with everything in it, that opens offline."""

from functools import cache
from importlib.metadata import version
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from atrous.errors import AtrousError
from atrous.files import write_atomically


def render_page(template: str, **context: object) -> str:
    """Fill a template of this folder; everything put into it is escaped."""
    return _build_environment().get_template(template).render(**context)


def save_page(path: Path, html: str) -> None:
    """Write a page, whole or not at all.

    Raises:
        AtrousError: The file cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, lambda file: file.write(html.encode()))
    except OSError as error:
        raise AtrousError(
            f"The page cannot be written to {path}: {error.strerror or error}. Free space, or name "
            "another file."
        ) from error


@cache
def _build_environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("atrous.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals["atrous_version"] = version("atrous")
    return environment
