"""The page of the server: a picture in, its classes over it, and nothing of it kept.

The picture travels inside the browser's request and the answer inside the response, both as
base64 in JSON, so gradio has no file to put into its cache. Looking at the answer (opacity, legend,
confidence under the pointer) needs no server any more: page_overlay.js does it on a canvas.
"""

import base64
import binascii
import io
import logging
import time
import zlib
from collections.abc import Callable, Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image

from atrous.classes import Classes
from atrous.data.shapes import SHAPES, draw_scene
from atrous.errors import AtrousError, ConfigError, DataError
from atrous.extras import import_extra
from atrous.prediction.render import write_mask
from atrous.serve.limits import Limits
from atrous.serve.memory import Hold, Memory
from atrous.serve.page_guard import PageGuard, PageMount
from atrous.serve.picture import decode_picture
from atrous.serve.refusals import RefusedError
from atrous.serve.service import Segmented

if TYPE_CHECKING:
    import gradio
    from fastapi import FastAPI

_THUMBNAIL_PX = 192
_NUM_DRAWN_EXAMPLES = 3
_DRAWN_EXAMPLE_PX = 192
_MAX_SESSIONS = 100  # gradio keeps something for each, though the page needs nothing of it
_LOG = logging.getLogger(__name__)


Segment = Callable[[str, bytes], Segmented]


def build_page(
    models: Mapping[str, Classes],
    segment: Segment,
    *,
    examples: Sequence[Path] = (),
    limits: Limits = Limits(),  # noqa: B008 (immutable)
) -> "gradio.Blocks":
    """Make the page, to be put into a server by `mount_page`.

    Args:
        models: Classes of each model by its name; the first is chosen at the start.
        segment: Maps a model's name and a picture file to the answer, such as `Service.segment`.
            What it raises is shown: the message of an AtrousError, a sentence for anything else.
        examples: Pictures to try, read once now. Without, a model of the sample set gets some of
            its pictures.
        limits: What the browser is told before it sends a picture.

    Raises:
        ConfigError: gradio is not installed, or there is no model.
        DataError: An example cannot be read.
    """
    gradio = import_extra("gradio", "serve")
    if not models:
        raise ConfigError("The page has no model to show. Give at least one run.")
    pictures = [(path.name, _read_example(path)) for path in examples]
    if not examples and any(classes.names == SHAPES.names for classes in models.values()):
        pictures = _draw_examples()
    contents = [_encode(content) for _, content in pictures]

    def segment_picture(request: dict[str, Any]) -> dict[str, Any]:
        """Answer the page; called by page.js."""
        start_s = time.perf_counter()
        try:
            model, content = _read_request(request, models)
            answer = encode_answer(segment(model, content), models[model])
        except Exception as error:
            return {"error": explain(error)}
        return answer | {"seconds": time.perf_counter() - start_s}

    def fetch_example(index: int) -> str:
        """Give an example as base64, or nothing if there is none; called by page.js."""
        return contents[index] if index in range(len(contents)) else ""

    settings = {
        "models": {
            name: {"names": classes.names, "colors": classes.colors}
            for name, classes in models.items()
        },
        "examples": [
            {"name": name, "thumbnail": _draw_thumbnail(name, content, limits)}
            for name, content in pictures
        ],
        "max_pixels": limits.max_pixels,
        "max_bytes": limits.max_body_bytes,
    }
    with gradio.Blocks(title="atrous", analytics_enabled=False) as page:
        gradio.HTML(
            html_template=_read_asset("page.html"),
            js_on_load=_read_asset("page.js") + _read_asset("page_overlay.js"),
            apply_default_css=False,
            server_functions=[segment_picture, fetch_example],
            settings=settings,
        )
    return page


def mount_page(
    app: "FastAPI",
    page: "gradio.Blocks",
    limits: Limits = Limits(),  # noqa: B008 (immutable)
) -> "FastAPI":
    """Put the page at `/` of a server, after all its other routes, and shut what it does not need.

    Args:
        app: The server; what it answers itself goes first.
        page: From `build_page`.
        limits: Requests that are longer than the largest picture file are refused.
    """
    gradio = import_extra("gradio", "serve")
    page.state_session_capacity = _MAX_SESSIONS
    gradio.mount_gradio_app(
        app,
        page,
        path="/",
        footer_links=[],
        run_history=False,
        show_error=False,
        ssr_mode=False,
        mcp_server=False,
        pwa=False,
        enable_monitoring=False,
        favicon_path=str(files(__package__) / "page.svg"),
        theme=gradio.themes.Base(font=["system-ui", "sans-serif"], font_mono=["monospace"]),
        head=f"<style>{_read_asset('page.css')}</style>",  # `css` would lose its media queries
    )
    mount = app.router.routes.pop()
    most_bytes = limits.max_body_bytes * 4 // 3 + 4096  # of base64, and what stands around it
    app.router.routes.append(PageMount(PageGuard(mount.app, max_body_bytes=most_bytes)))  # type: ignore[attr-defined]
    return app


def encode_answer(segmented: Segmented, classes: Classes) -> dict[str, Any]:
    """Write an answer as JSON: what the browser draws, deflated, and the mask as a PNG to keep."""
    mask_png = io.BytesIO()
    write_mask(mask_png, torch.from_numpy(segmented.mask), classes)
    confidence = segmented.confidence
    percent = b"" if confidence is None else (100 * confidence).round().astype(np.uint8).tobytes()
    height, width = segmented.mask.shape
    return {
        "height": height,
        "width": width,
        "mask": _encode(zlib.compress(segmented.mask.tobytes(), 1)),
        "percent": _encode(zlib.compress(percent, 1)),
        "mask_png": _encode(mask_png.getvalue()),
    }


def explain(error: Exception) -> str:
    """Say in a sentence or two what went wrong; what is not expected goes to the log alone."""
    if isinstance(error, AtrousError):
        return str(error)
    if isinstance(error, TimeoutError):
        return "The answer took too long. Try again in a while, or take a smaller picture."
    _LOG.error("The page could not answer.", exc_info=error)
    return "Something went wrong in the server; its log says what. Try another picture."


def _read_request(request: dict[str, Any], models: Mapping[str, Classes]) -> tuple[str, bytes]:
    try:
        model, content = str(request["model"]), base64.b64decode(request["picture"], validate=True)
    except (KeyError, TypeError, ValueError, binascii.Error):
        raise DataError("The request holds no picture. Load the page again.") from None
    if model not in models:
        raise ConfigError(f"There is no model '{model[:100]}' any more. Load the page again.")
    return model, content


def _read_example(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"The example {path} cannot be used: {error.strerror}") from error


def _draw_examples() -> list[tuple[str, bytes]]:
    """Draw pictures of the sample set that are not in it."""
    pictures = []
    for number in range(1, _NUM_DRAWN_EXAMPLES + 1):
        picture, _ = draw_scene(np.random.default_rng(number), _DRAWN_EXAMPLE_PX)
        file = io.BytesIO()
        Image.fromarray(picture).save(file, format="PNG")
        pictures.append((f"shapes {number}", file.getvalue()))
    return pictures


def _draw_thumbnail(name: str, content: bytes, limits: Limits) -> str:
    try:
        with Hold(Memory(limits.max_held_bytes)) as hold:
            image = decode_picture(content, limits, hold)
    except RefusedError as error:
        raise DataError(f"The example {name} cannot be used: {error}") from error
    thumbnail = Image.fromarray(image.permute(1, 2, 0).contiguous().numpy())
    thumbnail.thumbnail((_THUMBNAIL_PX, _THUMBNAIL_PX))
    file = io.BytesIO()
    thumbnail.save(file, format="JPEG", quality=80)
    return _encode(file.getvalue())


def _encode(content: bytes) -> str:
    return base64.b64encode(content).decode()


def _read_asset(name: str) -> str:
    return (files(__package__) / name).read_text(encoding="utf-8")
