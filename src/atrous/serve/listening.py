"""The listening socket, opened before anything slow is imported."""

import socket

from atrous.errors import ConfigError


def open_socket(host: str, port: int) -> socket.socket:
    """Open a listening socket.

    Raises:
        ConfigError: The address or port cannot be used.
    """
    try:
        if not 0 <= port < 2**16:  # getaddrinfo takes the port modulo 2**16
            raise OverflowError("ports are from 0 to 65535")
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listening = socket.create_server(address[:2], family=family, backlog=1024)
    except (OSError, OverflowError) as error:
        reason = str(getattr(error, "strerror", None) or error).partition(" (while")[0]
        raise ConfigError(
            f"Cannot listen on {host}, port {port}: {reason}. Choose another --host or --port; 0 "
            "selects a free port."
        ) from None
    # Inherited by connections. Without it, a response's body waits 40 ms until the client confirms
    # the headers: asyncio sets it only for sockets whose protocol is stated, which it is not here.
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listening
