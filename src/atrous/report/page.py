"""Pages from templates: each one file that opens offline."""

from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

_ENVIRONMENT = Environment(
    loader=PackageLoader("atrous.report"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


def render_page(template: str, **context: Any) -> str:
    """Return the HTML of a template in `report/templates`."""
    return _ENVIRONMENT.get_template(template).render(**context)
