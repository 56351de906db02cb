"""The web page of the server: static files that call the API."""

import json
from importlib.resources import files
from io import BytesIO
from pathlib import Path

from fastapi import APIRouter
from PIL import Image
from starlette.responses import Response

from atrous.data.pairs import list_image_files
from atrous.errors import DataError
from atrous.serve.errors import RequestError
from atrous.serve.image import decode_image
from atrous.serve.limits import Limits, Memory, Reservation

_MEDIA_TYPES = {
    ".html": "text/html",
    ".css": "text/css",
    ".js": "text/javascript",
    ".svg": "image/svg+xml",
}

_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self'; media-src 'self' blob:; connect-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'",
    "Permissions-Policy": "camera=(self), microphone=(), geolocation=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-cache",
}

_EXAMPLE_SIDE_PX = 1024


def build_page(limits: Limits, examples: Path | None = None) -> APIRouter:
    """Build the routes of the page, for `build_app`.

    Args:
        limits: Limits of the server, also for the examples.
        examples: Folder of example images, which are read now and reduced to 1024 px.

    Raises:
        DataError: The folder has no images, or one of them cannot be read.
    """
    paths = [] if examples is None else list_image_files(examples)
    if examples is not None and not paths:
        raise DataError(
            f"There are no images in the folder {examples}. Give another folder with --examples."
        )
    router = APIRouter()

    def add_file(path: str, content: bytes, media_type: str) -> None:
        @router.get(path)
        async def get_file() -> Response:
            return Response(content, media_type=media_type, headers=_HEADERS)

    for file in (files(__package__) / "static").iterdir():
        name = file.name.removeprefix("index.html")
        add_file(f"/{name}", file.read_bytes(), _MEDIA_TYPES[Path(file.name).suffix])
    for index, path in enumerate(paths):
        add_file(f"/examples/{index}", _load_example(path, limits), "image/png")
    add_file("/examples", json.dumps([path.name for path in paths]).encode(), "application/json")
    return router


def _load_example(path: Path, limits: Limits) -> bytes:
    try:
        with Reservation(Memory(limits.max_memory_bytes)) as reservation:
            image = decode_image(path.read_bytes(), limits, reservation)
    except (OSError, RequestError) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"The example {path} cannot be used: {reason}") from error
    example = Image.fromarray(image.permute(1, 2, 0).contiguous().numpy())
    example.thumbnail((_EXAMPLE_SIDE_PX, _EXAMPLE_SIDE_PX))
    file = BytesIO()
    example.save(file, format="PNG")
    return file.getvalue()
