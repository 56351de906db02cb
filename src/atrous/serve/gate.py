"""Who may call the server: the check of request heads, and the token."""

import hmac
import re
from collections.abc import Callable, Coroutine, Iterable
from typing import Annotated

from fastapi import Depends, security
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from atrous.serve.errors import RequestError

MAX_HEAD_BYTES = 16 * 1024
LOOPBACK = ("localhost", "127.0.0.1", "::1")


class Gate:
    """Middleware that rejects large or ambiguous request heads and foreign host names.

    A page of another site that makes its own name point to this server (DNS rebinding) sends that
    name in the Host header. Allowed are the names of this machine's loopback, the address of the
    connection and `hosts`, of which `*` allows all.
    """

    def __init__(self, app: ASGIApp, hosts: Iterable[str]) -> None:
        self.app = app
        self.hosts = frozenset(map(str.lower, (*LOOPBACK, *hosts)))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Forward a request, or reject it."""
        app = self.app
        try:
            self._check(scope)
        except RequestError as error:
            app = error.build_response()
        await app(scope, receive, send)

    def _check(self, scope: Scope) -> None:
        headers = Headers(scope=scope)
        num_bytes = len(scope["raw_path"]) + len(scope["query_string"])
        num_bytes += sum(len(name) + len(value) + 4 for name, value in scope["headers"])
        if num_bytes > MAX_HEAD_BYTES:
            raise RequestError(431)
        if "transfer-encoding" in headers and "content-length" in headers:
            raise RequestError(
                400, "The request has both Transfer-Encoding and Content-Length. Send one of them."
            )
        found = re.fullmatch(r"\[?([^\[\]]*?)\]?(:\d*)?", headers.get("host", "localhost"))
        name = found[1].lower() if found else ""
        if not self.hosts & {name, "*"} and name != (scope["server"] or [""])[0]:
            raise RequestError(
                421,
                f"This server does not answer to the name '{name[:60]}'. To allow it, start the "
                f"server with --allowed-host {name[:60]}.",
            )


def build_token_check(token: str) -> Callable[..., Coroutine[None, None, None]]:
    """Return a dependency that requires a token.

    Programs send it as `Authorization: Bearer TOKEN`, browsers as the password of Basic
    authentication with any user name.
    """
    bearer, basic = security.HTTPBearer(auto_error=False), security.HTTPBasic(auto_error=False)

    async def check_token(
        program: Annotated[security.HTTPAuthorizationCredentials | None, Depends(bearer)],
        person: Annotated[security.HTTPBasicCredentials | None, Depends(basic)],
    ) -> None:
        given = program.credentials if program else person.password if person else ""
        if not hmac.compare_digest(given.encode(), token.encode()):
            raise RequestError(401)

    return check_token
