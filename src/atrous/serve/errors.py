"""Errors of requests, each with its HTTP status."""

import math

from starlette.responses import JSONResponse

from atrous.errors import AtrousError

STATUSES = {
    400: "The request has no image, the multipart body is malformed, or it is not valid HTTP.",
    401: "The token is missing or wrong. Send the header Authorization: Bearer TOKEN.",
    404: "The path or the model does not exist; /openapi.json lists the paths.",
    405: "The path does not support this method; see /openapi.json.",
    408: "The request did not arrive in time.",
    413: "The body or the image is too large.",
    415: "The body is not an image in a supported format.",
    421: "The Host header does not name this server; --allowed-host adds a name.",
    422: "A parameter or field is invalid, or the image is damaged.",
    429: "The queue or the memory is full; Retry-After says when to try again.",
    431: "The request line and headers are larger than 16 KiB.",
    500: "Internal error; details are in the server's log.",
    503: "The server is loading models, is shutting down, or has too many connections.",
    504: "The response was not ready before the deadline.",
}
"""Every error status of the server and its meaning, as in docs/serve.md."""


class RequestError(AtrousError):
    """A rejected request.

    Args:
        status: HTTP status, a key of `STATUSES`.
        message: What is wrong, and what to do; by default, the meaning of the status.
        retry_after_s: Value of the Retry-After header of 429 and 503, rounded up.
    """

    def __init__(self, status: int, message: str = "", *, retry_after_s: float = 1) -> None:
        super().__init__(message or STATUSES[status])
        self.status = status
        self.headers: dict[str, str] = {}
        if status in (429, 503):
            self.headers["Retry-After"] = str(max(1, math.ceil(retry_after_s)))
        if status in (400, 408, 431):  # what follows in the connection is not read
            self.headers["Connection"] = "close"

    def build_response(self) -> JSONResponse:
        """Return the error as JSON."""
        response = JSONResponse({"error": str(self)}, self.status, self.headers)
        if self.status == 401:  # one header for each: Chromium reads only the first of a list
            response.headers.append("WWW-Authenticate", 'Basic realm="atrous", charset="UTF-8"')
            response.headers.append("WWW-Authenticate", "Bearer")
        return response
