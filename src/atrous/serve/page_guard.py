"""What stands before gradio: only what the page needs comes in, and nothing else is fetched."""

import logging

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.routing import Match, Mount
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_FILES = ("/", "/theme.css", "/favicon.ico", "/manifest.json")
_FOLDERS = ("/assets/", "/static/")
_CALLS = ("/gradio_api/component_server", "/gradio_api/component_server/")
_LOG = logging.getLogger(__name__)

_HEADERS = {
    # gradio compiles its templates in the browser, so scripts cannot be stricter than this.
    "Content-Security-Policy": "default-src 'self'; "
    "script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; font-src 'self' data:; media-src 'self' blob:; "
    "connect-src 'self'; object-src 'none'; base-uri 'self'; form-action 'none'; "
    "frame-ancestors 'none'",
    "Permissions-Policy": "camera=(self), microphone=(), geolocation=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


class PageMount(Mount):
    """Takes the paths of the page alone, so that all others keep the server's own answers."""

    def __init__(self, app: ASGIApp) -> None:
        super().__init__("/", app)

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """Say whether a request is for the page."""
        path = scope["path"]
        if path in (*_FILES, *_CALLS) or path.startswith(_FOLDERS):
            return super().matches(scope)
        return Match.NONE, {}


class PageGuard:
    """Lets through the files of the page and its one call, under a strict policy.

    gradio also takes uploads, fetches from other hosts on behalf of a page, and serves files of
    its cache. The page uses none of this, so all of it is 404 here.

    A call that gradio fails on is a bad request, and no error of the server.

    Args:
        app: gradio's application.
        max_body_bytes: Longer calls are refused before they are read.
    """

    def __init__(self, app: ASGIApp, *, max_body_bytes: int) -> None:
        self.app = app
        self.max_body_bytes = max_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await PlainTextResponse("Not found.", 404)(scope, receive, send)
            return
        if refusal := self._refuse(scope):
            text, status = refusal
            await PlainTextResponse(text, status)(scope, receive, send)
            return

        is_call = scope["method"] == "POST"

        async def send_with_policy(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.update(_HEADERS)
                if is_call:
                    headers["Cache-Control"] = "no-store"
                    message["status"] = min(message["status"], 400)
            await send(message)

        try:
            await self.app(scope, receive, send_with_policy)
        except Exception:
            if not is_call:
                raise
            # The page's functions raise nothing, so what gradio failed on is the call itself, and
            # it has been answered.
            _LOG.debug("A call that is not the page's.", exc_info=True)

    def _refuse(self, scope: Scope) -> tuple[str, int] | None:
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        method, headers = scope["method"], Headers(scope=scope)
        if method in ("GET", "HEAD") and (path in _FILES or path.startswith(_FOLDERS)):
            return None
        if method != "POST" or path not in _CALLS:
            return "Not found.", 404
        if headers.get("content-type", "").split(";")[0] != "application/json":
            return "Only JSON is taken.", 415  # also what no other site can send unasked
        length = headers.get("content-length", "")
        if not length.isdecimal():
            return "The length must be told.", 411
        if int(length) > self.max_body_bytes:
            return "Too large.", 413
        return None
