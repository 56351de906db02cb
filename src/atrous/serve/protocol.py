"""HTTP on one connection: how many there are, how slow they may be, and errors as JSON."""

import asyncio
import json
import sys
from http import HTTPStatus
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from atrous.serve.limits import Limits

MAX_HEAD_BYTES = 16 * 1024


class GuardedProtocol(H11Protocol):
    """uvicorn's protocol with bounds that it leaves to a proxy.

    A head that does not arrive in time is answered with 408, or the connection is dropped; so is
    one whose refused body does not end, and one that does not take its answer. Connections above
    the limit get 503 before they say anything.

    Args:
        limits: The bounds.
        arguments: As uvicorn gives them.
    """

    def __init__(self, *, limits: Limits, **arguments: Any) -> None:
        super().__init__(**arguments)
        self._limits = limits
        self._head_timer: asyncio.TimerHandle | None = None
        self._write_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take a connection, or say that there are too many."""
        super().connection_made(transport)
        transport.set_write_buffer_limits(high=0)  # a standstill of one byte is noticed too
        if len(self.connections) > self._limits.max_connections:
            self._send_error(503, "There are too many connections. Try again shortly.")
            return
        self._watch_head()

    def data_received(self, data: bytes) -> None:
        """Take bytes."""
        if not self.transport.is_closing():
            super().data_received(data)
            self._watch_head()

    def on_response_complete(self) -> None:
        """Wait for the rest of the body or the next request."""
        super().on_response_complete()
        self._watch_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self._stop_head_timer()
        self._stop_write_timer()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """Wait for a sender that does not take its answer, but not for ever."""
        super().pause_writing()
        if self._write_timer is None:
            self._write_timer = self.loop.call_later(self._limits.transfer_s, self.transport.abort)

    def resume_writing(self) -> None:
        """Go on."""
        super().resume_writing()
        self._stop_write_timer()

    def send_400_response(self, msg: str) -> None:
        """Answer what is no HTTP."""
        if self.conn.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            self.transport.abort()
            return
        error = sys.exception()
        status = getattr(error, "error_status_hint", 400)
        if status == 431:
            message = f"The head of the request is larger than {MAX_HEAD_BYTES // 1024} KiB."
        else:
            message = "The request is no valid HTTP/1.1."
        self._send_error(status, message)

    def _watch_head(self) -> None:
        waiting = self.cycle is None or self.cycle.response_complete
        if waiting and self._head_timer is None and not self.transport.is_closing():
            self._head_timer = self.loop.call_later(self._limits.transfer_s, self._give_up)
        elif not waiting:
            self._stop_head_timer()

    def _give_up(self) -> None:
        if self.conn.our_state is h11.IDLE and self.conn.trailing_data[0]:
            message = f"The head did not arrive within {self._limits.transfer_s:g} seconds."
            self._send_error(408, message)
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

    def _stop_head_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _stop_write_timer(self) -> None:
        if self._write_timer is not None:
            self._write_timer.cancel()
            self._write_timer = None
