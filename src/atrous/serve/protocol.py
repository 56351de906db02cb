"""HTTP on one connection: its time limits, the number of connections, errors as JSON."""

import asyncio
import json
import sys
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from atrous.serve.errors import STATUSES
from atrous.serve.limits import Limits


class LimitedProtocol(H11Protocol):
    """uvicorn's protocol with limits that it leaves to a proxy.

    Incomplete request headers are answered with 408 after a time limit, and idle connections
    closed. Connections are aborted if the rest of a rejected body does not arrive or is twice the
    maximum, or if the client stops receiving a response. Connections above the maximum get 503.

    Args:
        limits: The limits.
        arguments: Arguments of uvicorn.
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
            self._send_error(503, "There are too many connections. Try again shortly.")
            return
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
        for name in list(self._timers):
            self._stop_timer(name)
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """Abort the connection if the client does not receive more within the time limit."""
        super().pause_writing()
        self._start_timer("write", self.transport.abort)

    def resume_writing(self) -> None:
        """Continue sending."""
        super().resume_writing()
        self._stop_timer("write")

    def send_400_response(self, msg: str) -> None:
        """Respond to invalid HTTP."""
        if self.conn.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            self.transport.abort()
            return
        status = getattr(sys.exception(), "error_status_hint", 400)
        message = STATUSES[431] if status == 431 else "The request is not valid HTTP/1.1."
        self._send_error(status, message)

    def _is_responding(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _update_head_timer(self) -> None:
        """Run the timer of the request line and headers while no request is in progress."""
        if self._is_responding():
            self._stop_timer("head")
        elif not self.transport.is_closing():
            self._start_timer("head", self._end_waiting)

    def _end_waiting(self) -> None:
        if self.conn.our_state is h11.IDLE and self.conn.trailing_data[0]:
            limit_s = self._limits.transfer_s
            self._send_error(408, f"The headers did not arrive within {limit_s:g} seconds.")
        else:
            self.transport.abort()

    def _send_error(self, status: int, message: str) -> None:
        body = json.dumps({"error": message}).encode()
        retry = b"retry-after: 5\r\n" if status == 503 else b""
        head = (
            f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\ncontent-type: application/json\r\n"
            f"content-length: {len(body)}\r\nconnection: close\r\n"
        )
        self.transport.write(head.encode() + retry + b"\r\n" + body)
        self.transport.close()

    def _start_timer(self, name: str, end: Callable[[], None]) -> None:
        if name not in self._timers:
            self._timers[name] = self.loop.call_later(self._limits.transfer_s, end)

    def _stop_timer(self, name: str) -> None:
        if name in self._timers:
            self._timers.pop(name).cancel()
