"""Access by token."""

import base64
import binascii
import hmac

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

PUBLIC_PATHS = ("/healthz", "/readyz")
"""Paths without a token: they only show whether the server is up."""


class TokenGuard:
    """Middleware that rejects requests without the token, except for `PUBLIC_PATHS`.

    Programs send it as `Authorization: Bearer TOKEN`, browsers as the password of Basic
    authentication with any user name.
    """

    def __init__(self, app: ASGIApp, token: str) -> None:
        self.app = app
        self._token = token.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Forward a request, or respond with 401."""
        app = self.app
        protected = scope["type"] != "lifespan" and scope.get("path") not in PUBLIC_PATHS
        if protected and not hmac.compare_digest(_read_token(scope), self._token):
            app = JSONResponse(
                {"error": "The token is missing or wrong. Send 'Authorization: Bearer TOKEN'."},
                401,
                {"WWW-Authenticate": 'Bearer, Basic realm="atrous", charset="UTF-8"'},
            )
        await app(scope, receive, send)


def _read_token(scope: Scope) -> bytes:
    values = [value for name, value in scope["headers"] if name == b"authorization"]
    if len(values) != 1:
        return b""
    scheme, _, value = values[0].strip().partition(b" ")
    if scheme.lower() == b"bearer":
        return value.strip()
    if scheme.lower() == b"basic":
        try:
            return base64.b64decode(value.strip(), validate=True).partition(b":")[2]
        except binascii.Error:
            return b""
    return b""
