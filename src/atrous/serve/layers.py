"""What lies around all routes: the token, and the counting of requests."""

import base64
import binascii
import hmac
import time
from contextlib import nullcontext

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from atrous.serve.metrics import Metrics
from atrous.serve.service import Service

OPEN_PATHS = ("/healthz", "/readyz")
"""Paths that need no token: they tell nothing but whether the server is there."""


class TokenGuard:
    """Lets nothing in without the token, but for `OPEN_PATHS`.

    Programs send it as `Authorization: Bearer TOKEN`. Browsers ask for a name and a password and
    send both; the password is the token and the name does not matter.
    """

    def __init__(self, app: ASGIApp, token: str) -> None:
        self.app = app
        self._token = token.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer 401."""
        guarded = scope["type"] != "lifespan" and scope.get("path") not in OPEN_PATHS
        if guarded and not hmac.compare_digest(_read_token(scope), self._token):
            challenge = 'Bearer, Basic realm="atrous", charset="UTF-8"'
            answer = JSONResponse(
                {"error": "The token is missing or wrong. Send 'Authorization: Bearer TOKEN'."},
                401,
                {"WWW-Authenticate": challenge},
            )
            await answer(scope, receive, send)
            return
        await self.app(scope, receive, send)


def _read_token(scope: Scope) -> bytes:
    sent = [value for name, value in scope["headers"] if name == b"authorization"]
    if len(sent) != 1:
        return b""
    scheme, _, value = sent[0].strip().partition(b" ")
    if scheme.lower() == b"bearer":
        return value.strip()
    if scheme.lower() == b"basic":
        try:
            return base64.b64decode(value.strip(), validate=True).partition(b":")[2]
        except binascii.Error:
            return b""
    return b""


class Meter:
    """Counts requests by path and status, with the time each took.

    Args:
        app: What is inside.
        service: Told of requests to `paths`, which stopping waits for.
        metrics: Where to count.
        paths: Those of the API; all others are counted as `other`.
    """

    def __init__(
        self, app: ASGIApp, service: Service, metrics: Metrics, paths: frozenset[str]
    ) -> None:
        self.app = app
        self.service = service
        self.metrics = metrics
        self.paths = paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on and count it."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        path = scope["path"] if scope["path"] in self.paths else "other"
        start_s, status = time.perf_counter(), 500

        async def note(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            with nullcontext() if path == "other" else self.service.active():
                await self.app(scope, receive, note)
        finally:
            self.metrics.requests.labels(path, status).inc()
            self.metrics.seconds.labels(path).observe(time.perf_counter() - start_s)
