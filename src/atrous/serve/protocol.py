"""HTTP on one connection: its time limits, the number of connections, errors as JSON."""

import asyncio
import sys
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from atrous.serve.errors import RequestError
from atrous.serve.limits import Limits


class LimitedProtocol(H11Protocol):
    """uvicorn's protocol with limits that it leaves to a proxy.

    Incomplete request headers are answered with 408 after a time limit, and idle connections
    closed. Connections are aborted if the rest of a rejected body does not arrive or is twice the
    maximum, or if the client stops receiving a response. Connections above the maximum get 503.
    """

    def __init__(self, *, limits: Limits, **arguments: Any) -> None:
        super().__init__(**arguments)
        self._limits = limits
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._num_dropped = 0  # bytes received since the last response

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Accept a connection, or reject it if there are too many."""
        super().connection_made(transport)
        transport.set_write_buffer_limits(high=0)  # so that a single unsent byte pauses writing
        if len(self.connections) > self._limits.max_connections:
            message = "There are too many connections. Try again shortly."
            self._reject(RequestError(503, message, retry_after_s=5))
        self._update_head_timer()

    def data_received(self, data: bytes) -> None:
        """Process received bytes."""
        if self.transport.is_closing():
            return
        super().data_received(data)
        self._update_head_timer()
        self._num_dropped = 0 if self._is_responding() else self._num_dropped + len(data)
        if self._num_dropped > 2 * self._limits.max_body_bytes:
            self.transport.abort()

    def on_response_complete(self) -> None:
        """Limit the time for the rest of the body or the next request."""
        super().on_response_complete()
        self._update_head_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        """Cancel all timers."""
        for timer in self._timers.values():
            timer.cancel()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """Abort the connection if the client does not receive more within the time limit."""
        super().pause_writing()
        self._set_timer("write", self.transport.abort)

    def resume_writing(self) -> None:
        """Continue sending."""
        super().resume_writing()
        self._set_timer("write", None)

    def send_400_response(self, msg: str) -> None:
        """Respond to invalid HTTP."""
        if self.conn.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            self.transport.abort()
            return
        status = getattr(sys.exception(), "error_status_hint", 400)
        message = "" if status == 431 else "The request is not valid HTTP/1.1."
        self._reject(RequestError(status, message))

    def _is_responding(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _update_head_timer(self) -> None:
        """Run the timer of the request line and headers while no request is in progress."""
        is_idle = not self._is_responding() and not self.transport.is_closing()
        self._set_timer("head", self._end_waiting if is_idle else None)

    def _end_waiting(self) -> None:
        if self.conn.our_state is h11.IDLE and self.conn.trailing_data[0]:
            limit_s = self._limits.transfer_s
            self._reject(
                RequestError(408, f"The headers did not arrive within {limit_s:g} seconds.")
            )
        else:
            self.transport.abort()

    def _reject(self, error: RequestError) -> None:
        response = error.build_response()
        response.headers["Connection"] = "close"
        lines = [f"HTTP/1.1 {error.status} {HTTPStatus(error.status).phrase}".encode()]
        lines += [name + b": " + value for name, value in response.raw_headers]
        self.transport.write(b"\r\n".join([*lines, b"", bytes(response.body)]))
        self.transport.close()

    def _set_timer(self, name: str, end: Callable[[], None] | None) -> None:
        """Start a timer unless it runs, or stop it."""
        if end is None:
            if timer := self._timers.pop(name, None):
                timer.cancel()
        elif name not in self._timers:
            self._timers[name] = self.loop.call_later(self._limits.transfer_s, end)
