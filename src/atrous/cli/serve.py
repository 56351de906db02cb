"""`atrous serve`."""

import math
import os
import re
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from atrous.cli.console import Console
from atrous.cli.options import Device, EngineName, Precision, Trust
from atrous.errors import ConfigError

if TYPE_CHECKING:
    from socket import socket

    from atrous.serve.service import Service

TOKEN_VARIABLE = "ATROUS_TOKEN"

_NO_TOKEN = (
    "[yellow]Everyone who can reach this machine can use the server:[/] no token is set. Set one "
    "with --token-file."
)


def run_serve(
    runs: Annotated[
        list[Path], typer.Argument(help="Run folders, weights files or exported files.")
    ],
    *,
    name: Annotated[
        list[str] | None,
        typer.Option(help="Name of a model, once for each; by default, that of its path."),
    ] = None,
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 for all.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on; 0 selects a free one.")] = 8000,
    engine: EngineName = "torch",
    trust: Trust = False,
    device: Device = "auto",
    precision: Precision = "32",
    window: Annotated[
        int | None, typer.Option(help="Side of a sliding window in pixels, as for predict.")
    ] = None,
    token_file: Annotated[
        Path | None, typer.Option(help=f"File with the required token; or set {TOKEN_VARIABLE}.")
    ] = None,
    allowed_host: Annotated[
        list[str] | None,
        typer.Option(
            help="Further name of the server in requests, such as example.org; * for all."
        ),
    ] = None,
    max_body_mb: Annotated[float, typer.Option(help="Maximum size of an image file.")] = 20,
    max_megapixels: Annotated[
        float | None,
        typer.Option(
            help="Maximum pixels of an image; by default, what the models segment in half of "
            "--deadline, at most 50."
        ),
    ] = None,
    max_side: Annotated[int, typer.Option(help="Maximum side of an image, in pixels.")] = 16_384,
    max_memory_mb: Annotated[
        float, typer.Option(help="Maximum memory of the images of all requests.")
    ] = 2048,
    max_waiting: Annotated[int, typer.Option(help="Maximum images in the queue.")] = 128,
    max_batch: Annotated[int, typer.Option(help="Maximum images in a batch.")] = 16,
    max_connections: Annotated[int, typer.Option(help="Maximum open connections.")] = 256,
    deadline: Annotated[float, typer.Option(help="Maximum seconds until a response.")] = 60,
    transfer: Annotated[
        float, typer.Option(help="Maximum seconds for headers, body, or a stalled response.")
    ] = 30,
    page: Annotated[bool, typer.Option(help="Serve a web page at /.")] = True,
    examples: Annotated[
        Path | None, typer.Option(help="Folder of example images for the page.")
    ] = None,
    access_log: Annotated[bool, typer.Option("--access-log", help="Log each request.")] = False,
) -> None:
    """Serve models over HTTP, with a web page, until Ctrl-C or SIGTERM."""
    from atrous.serve.listening import open_socket

    listening = open_socket(host, port)  # first: the packages below take seconds to import
    from atrous.engines import TTA

    _require_packages()
    from atrous.serve.app import build_app
    from atrous.serve.limits import Limits
    from atrous.serve.page import build_page
    from atrous.serve.server import Server, run_server
    from atrous.serve.service import build_service

    limits = Limits(
        max_body_bytes=_count_millions(max_body_mb),
        max_pixels=None if max_megapixels is None else _count_millions(max_megapixels),
        max_side_px=max_side,
        max_memory_bytes=_count_millions(max_memory_mb),
        max_waiting=max_waiting,
        max_batch=max_batch,
        max_connections=max_connections,
        deadline_s=deadline,
        transfer_s=transfer,
    )
    warnings.filterwarnings("ignore", module="PIL")  # about damaged images; the client gets them
    console, token = Console(stderr=True), read_token(token_file)
    if token is None and host not in ("127.0.0.1", "localhost", "::1"):
        console.print(_NO_TOKEN)
    service = build_service(
        runs,
        names=name or (),
        engine=engine,
        device=device,
        precision=precision,
        trust=trust,
        tta=TTA(window_px=window),
        limits=limits,
    )
    site = build_page(limits, examples) if page else None
    app = build_app(service, token, hosts=[host, *(allowed_host or ())], page=site)
    server = Server(service, app, access_log=access_log)
    run_server(server, listening, lambda event: _print_ready(console, service, listening))
    if server.force_exit:
        raise KeyboardInterrupt
    console.print("Stopped; all accepted images are processed.")


def _require_packages() -> None:
    from atrous.extras import import_extra

    for package in ("fastapi", "uvicorn", "prometheus_client", "python_multipart"):
        import_extra(package, "serve")


def _print_ready(console: Console, service: "Service", listening: "socket") -> None:
    address, port = listening.getsockname()[:2]
    url = f"http://{f'[{address}]' if ':' in address else address}:{port}"
    engines = ", ".join(
        f"{name} ({one.name}, {one.precision})" for name, one in service.engines.items()
    )
    megapixels = (service.limits.max_pixels or 0) / 1e6
    ready = (
        f"Ready at {url}: {escape(engines)}, images up to {megapixels:.3g} megapixels. Press "
        "Ctrl-C to stop."
    )
    console.print(ready, soft_wrap=True)


def _count_millions(value: float) -> int:
    return round(value * 1e6) if math.isfinite(value) else value  # type: ignore[return-value]


def read_token(path: Path | None) -> str | None:
    """Return the token from a file, else from the environment, else None.

    Raises:
        ConfigError: The file cannot be read, or the token is empty or has invalid characters.
    """
    source, token = TOKEN_VARIABLE, os.environ.get(TOKEN_VARIABLE)
    if path is not None:
        try:
            source, token = str(path), path.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "it is not text"
            raise ConfigError(
                f"The token cannot be read from {path}: {reason}. Write a token to the file, such "
                "as the output of: openssl rand -hex 32"
            ) from None
    if token is not None and not re.fullmatch(r"[!-~]+", token):
        raise ConfigError(
            f"The token in {source} must be one line of ASCII characters without spaces, and not "
            "empty. Create one with: openssl rand -hex 32"
        )
    return token
