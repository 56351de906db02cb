"""Starting the server, and stopping it without losing an image."""

import asyncio
import signal
import socket
import threading
from collections.abc import Callable
from functools import partial
from types import FrameType

import uvicorn
from fastapi import FastAPI

from atrous.serve.gate import MAX_HEAD_BYTES
from atrous.serve.protocol import LimitedProtocol
from atrous.serve.service import Service


class Server(uvicorn.Server):
    """uvicorn with the limits of a service, which it stops on a signal without losing an image."""

    def __init__(self, service: Service, app: FastAPI, *, access_log: bool = False) -> None:
        limits = service.limits
        config = uvicorn.Config(
            app,
            http=partial(LimitedProtocol, limits=limits),  # type: ignore[arg-type]
            ws="none",
            loop="asyncio",
            lifespan="off",
            log_level="info" if access_log else "error",
            access_log=access_log,
            server_header=False,
            proxy_headers=False,
            h11_max_incomplete_event_size=MAX_HEAD_BYTES,
            timeout_keep_alive=20,
            timeout_graceful_shutdown=int(limits.deadline_s + 2 * limits.transfer_s) + 1,
        )
        super().__init__(config)
        self.service = service

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Handle a signal: accept no more images."""
        self.service.state = "stopping"
        super().handle_exit(sig, frame)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Complete the requests in progress."""
        closing = asyncio.create_task(self._close_connections())
        await super().shutdown(sockets)
        closing.cancel()

    async def _close_connections(self) -> None:
        """Close all connections once no request is in progress."""
        await asyncio.sleep(0.2)
        while self.server_state.tasks:
            await asyncio.sleep(0.05)
        for connection in list(self.server_state.connections):
            connection.transport.close()


def run_server(
    server: Server, listening: socket.socket, listener: Callable[[dict[str, str]], object]
) -> None:
    """Serve until SIGTERM or SIGINT, then complete the requests in progress and return.

    Args:
        server: Responds while its models are loading, so that /readyz can report it.
        listening: Made by `open_socket`; closed at the end.
        listener: Called with an event of kind `ready` when the models are loaded.

    Raises:
        AtrousError: A model cannot be loaded.
    """
    failures: list[BaseException] = []

    def load() -> None:
        try:
            server.service.load()
            listener({"kind": "ready"})
        except BaseException as error:
            if not server.should_exit:  # else it was stopped while loading
                failures.append(error)
            server.should_exit = True

    threading.Thread(target=load, name="loader", daemon=True).start()
    # uvicorn raises the signal that stopped it again, which would end the process.
    handlers = {sig: signal.signal(sig, signal.SIG_IGN) for sig in (signal.SIGTERM, signal.SIGINT)}
    try:
        server.run(sockets=[listening])
    finally:
        server.service.stop()
        for sig, handler in handlers.items():
            signal.signal(sig, handler)
    if failures:
        raise failures[0]
