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
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from atrous.classes import Classes
from atrous.data import read_image
from atrous.data.sample import UNREADABLE
from atrous.errors import AtrousError, ConfigError, DataError
from atrous.inference.render import write_mask
from atrous.serve.page_guard import PageGuard

if TYPE_CHECKING:
    import gradio
    from fastapi import FastAPI

MAX_PIXELS = 25_000_000
"""Pictures of more pixels are refused unless asked for; phones take 12 million."""

MAX_BYTES = 20 * 2**20
"""Picture files of more bytes are refused unless asked for."""

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "AVIF")
"""What browsers can show; anything else is not even opened."""

_THUMBNAIL_PX = 192
_MAX_SESSIONS = 100  # gradio keeps something for each, though the page needs nothing of it
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Segmented:
    """The answer for one picture.

    Attributes:
        mask: uint8 (H, W), class indices, void 255.
        confidence: float32 (H, W), the probability of the likeliest class.
    """

    mask: NDArray[np.uint8]
    confidence: NDArray[np.float32]


Segment = Callable[[str, NDArray[np.uint8]], Segmented]


def build_page(
    models: Mapping[str, Classes],
    segment: Segment,
    *,
    examples: Sequence[Path] = (),
    max_pixels: int = MAX_PIXELS,
    max_bytes: int = MAX_BYTES,
) -> "gradio.Blocks":
    """Make the page, to be put into a server by `mount_page`.

    Args:
        models: Classes of each model by its name; the first is chosen at the start.
        segment: Maps a model's name and a picture, uint8 (H, W, 3), to the answer. What it raises
            is shown: the message of an AtrousError, a sentence for anything else.
        examples: Pictures to try, read once now.
        max_pixels: Pictures of more pixels are refused.
        max_bytes: Picture files of more bytes are refused.

    Raises:
        ConfigError: gradio is not installed, or there is no model.
        DataError: An example cannot be read.
    """
    gradio = import_gradio()
    if not models:
        raise ConfigError("The page has no model to show. Give at least one run.")
    thumbnails = [_load_example(path, max_pixels) for path in examples]
    contents = [_encode(path.read_bytes()) for path in examples]

    def segment_picture(request: dict[str, Any]) -> dict[str, Any]:
        """Answer the page; called by page.js."""
        start_s = time.perf_counter()
        try:
            model, image = _read_request(request, models, max_pixels, max_bytes)
            answer = encode_answer(segment(model, image), models[model])
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
        "examples": thumbnails,
        "max_pixels": max_pixels,
        "max_bytes": max_bytes,
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


def mount_page(app: "FastAPI", page: "gradio.Blocks", *, max_bytes: int = MAX_BYTES) -> "FastAPI":
    """Put the page at `/` of a server, after all its other routes, and shut what it does not need.

    Args:
        app: The server; what it answers itself goes first.
        page: From `build_page`.
        max_bytes: As for `build_page`: requests that are longer than such a picture are refused.
    """
    gradio = import_gradio()
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
    mount = app.routes[-1]
    mount.app = PageGuard(mount.app, max_body_bytes=max_bytes * 4 // 3 + 4096)  # type: ignore[attr-defined]
    return app


def import_gradio() -> Any:
    """Return the package gradio.

    Raises:
        ConfigError: It is not installed.
    """
    try:
        import gradio
    except ImportError as error:
        raise ConfigError(
            "The page needs gradio, which cannot be imported "
            f"({error}). Install it: pip install 'atrous[serve]'"
        ) from error
    return gradio


def encode_answer(segmented: Segmented, classes: Classes) -> dict[str, Any]:
    """Write an answer as JSON: what the browser draws, deflated, and the mask as a PNG to keep."""
    mask_png = io.BytesIO()
    write_mask(mask_png, torch.from_numpy(segmented.mask), classes)
    percent = (100 * segmented.confidence).round().astype(np.uint8)
    height, width = segmented.mask.shape
    return {
        "height": height,
        "width": width,
        "mask": _encode(zlib.compress(segmented.mask.tobytes(), 1)),
        "percent": _encode(zlib.compress(percent.tobytes(), 1)),
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


def _read_request(
    request: dict[str, Any], models: Mapping[str, Classes], max_pixels: int, max_bytes: int
) -> tuple[str, NDArray[np.uint8]]:
    try:
        model, name, data = str(request["model"]), str(request["name"])[:100], request["picture"]
        content = base64.b64decode(data, validate=True)
    except (KeyError, TypeError, ValueError, binascii.Error):
        raise DataError("The request holds no picture. Load the page again.") from None
    if model not in models:
        raise ConfigError(f"There is no model '{model[:100]}' any more. Load the page again.")
    if len(content) > max_bytes:
        raise DataError(
            f"{name} has {len(content) / 1e6:.1f} MB, where at most {max_bytes / 1e6:.0f} MB are "
            "taken. Make it smaller."
        )
    return model, _decode(content, name, max_pixels)


def _decode(content: bytes, name: str, max_pixels: int) -> NDArray[np.uint8]:
    try:
        Image.open(io.BytesIO(content), formats=FORMATS).close()
    except UNREADABLE:
        raise DataError(
            f"{name} is not a picture, or not in one of these formats: {', '.join(FORMATS)}."
        ) from None
    image = read_image(io.BytesIO(content), name=name, max_pixels=max_pixels)
    return np.ascontiguousarray(image.permute(1, 2, 0).numpy())


def _load_example(path: Path, max_pixels: int) -> dict[str, str]:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"The example {path} cannot be read: {error.strerror}.") from error
    thumbnail = Image.fromarray(_decode(content, str(path), max_pixels))
    thumbnail.thumbnail((_THUMBNAIL_PX, _THUMBNAIL_PX))
    file = io.BytesIO()
    thumbnail.save(file, format="JPEG", quality=80)
    return {"name": path.name, "thumbnail": _encode(file.getvalue())}


def _encode(content: bytes) -> str:
    return base64.b64encode(content).decode()


def _read_asset(name: str) -> str:
    return (files(__package__) / name).read_text(encoding="utf-8")
