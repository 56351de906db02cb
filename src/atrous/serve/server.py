"""Starting to listen, and stopping without losing an image."""

import asyncio
import signal
import socket
import threading
from collections.abc import Callable
from functools import partial
from types import FrameType

import uvicorn
from fastapi import FastAPI

from atrous.errors import ConfigError
from atrous.serve.protocol import MAX_HEAD_BYTES, GuardedProtocol
from atrous.serve.service import Service

_KEEP_ALIVE_S = 20


class Server(uvicorn.Server):
    """uvicorn's server; it tells the service of a signal, and stops for images only."""

    def __init__(self, config: uvicorn.Config, service: Service) -> None:
        super().__init__(config)
        self.service = service

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Take no more."""
        self.service.state = "stopping"
        super().handle_exit(sig, frame)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Finish what was taken."""
        cutting = asyncio.create_task(self._cut_streams())
        await super().shutdown(sockets)
        cutting.cancel()

    async def _cut_streams(self) -> None:
        """Once all images are answered, close what else is open, such as events for a page."""
        await asyncio.sleep(0.2)
        while self.service.num_active:
            await asyncio.sleep(0.05)
        for connection in list(self.server_state.connections):
            connection.transport.close()


def open_socket(host: str, port: int) -> socket.socket:
    """Listen on an address.

    Raises:
        ConfigError: It cannot be listened on.
    """
    try:
        if not 0 <= port < 2**16:  # getaddrinfo would take the rest of a division
            raise OverflowError("ports are from 0 to 65535")
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.create_server(address[:2], family=family, backlog=1024)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(
            f"Cannot listen on {host}, port {port}: {reason}. Choose another --port, or --host; 0 "
            "takes any port that is free."
        ) from None
    # Connections inherit it. Without, the body of an answer waits 40 ms for the client to confirm
    # the head: asyncio sets it only where a socket's protocol is stated, which it is not here.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


def build_server(service: Service, app: FastAPI, *, access_log: bool = False) -> Server:
    """Set up uvicorn with the limits of a service; its `run` then serves.

    Args:
        service: Told when it has to stop.
        app: What answers.
        access_log: Whether to write a line per request.
    """
    limits = service.limits
    config = uvicorn.Config(
        app,
        http=partial(GuardedProtocol, limits=limits),  # type: ignore[arg-type]
        ws="none",
        loop="asyncio",
        log_level="info" if access_log else "error",
        access_log=access_log,
        server_header=False,
        proxy_headers=False,
        h11_max_incomplete_event_size=MAX_HEAD_BYTES,
        timeout_keep_alive=_KEEP_ALIVE_S,
        timeout_graceful_shutdown=int(limits.deadline_s + 2 * limits.transfer_s) + 1,
    )
    return Server(config, service)


def run_server(
    server: Server, listener: socket.socket, *, tell_ready: Callable[[], None] = lambda: None
) -> None:
    """Serve until SIGTERM or SIGINT, then finish what was taken and return.

    It listens while the models are still being loaded, so that /readyz can say so.

    Args:
        server: Its service is loaded here, in a thread of its own.
        listener: Made by `open_socket`; closed at the end.
        tell_ready: Called when the models are loaded.

    Raises:
        AtrousError: A model cannot be loaded.
    """
    failures: list[BaseException] = []

    def load() -> None:
        try:
            server.service.load()
            tell_ready()
        except BaseException as error:
            failures.append(error)
            server.should_exit = True

    threading.Thread(target=load, name="loader", daemon=True).start()
    # uvicorn raises the signal that ended it once more, so that others see it: nobody is to.
    handlers = {sig: signal.signal(sig, signal.SIG_IGN) for sig in (signal.SIGTERM, signal.SIGINT)}
    try:
        server.run(sockets=[listener])
    finally:
        server.service.stop()
        for sig, handler in handlers.items():
            signal.signal(sig, handler)
    if failures:
        raise failures[0]
