"""`atrous serve`."""

import os
import warnings
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.markup import escape

from atrous.cli.console import Console
from atrous.errors import ConfigError

TOKEN_VARIABLE = "ATROUS_TOKEN"


def run_serve(
    runs: Annotated[
        list[Path], typer.Argument(help="Run folders, weights files or exported files.")
    ],
    *,
    name: Annotated[
        list[str] | None,
        typer.Option(help="What requests call a model, once for each; else as its path is called."),
    ] = None,
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 is all.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="0 takes any that is free.")] = 8000,
    engine: Annotated[
        str, typer.Option(help="torch, an export such as openvino-int8, or auto: the fastest.")
    ] = "torch",
    trust: Annotated[
        bool, typer.Option("--trust", help="Open .pt2 exports, which can run any code.")
    ] = False,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    precision: Annotated[
        Literal["32", "bf16", "auto"], typer.Option(help="auto: bf16 where the device has it.")
    ] = "32",
    window: Annotated[
        int | None, typer.Option(help="Side of a sliding window in pixels, as for predict.")
    ] = None,
    token_file: Annotated[
        Path | None,
        typer.Option(help=f"File with the token to ask for; or set {TOKEN_VARIABLE}."),
    ] = None,
    max_body_mb: Annotated[float, typer.Option(help="Largest body of a request.")] = 20,
    max_megapixels: Annotated[float, typer.Option(help="Most pixels of an image.")] = 50,
    max_side: Annotated[int, typer.Option(help="Longest side of an image, in pixels.")] = 16_384,
    max_memory_mb: Annotated[
        float, typer.Option(help="Bodies and images of all requests together.")
    ] = 2048,
    max_waiting: Annotated[int, typer.Option(help="Images that may wait; beyond: 429.")] = 128,
    max_batch: Annotated[int, typer.Option(help="Images of one size run at once.")] = 16,
    max_connections: Annotated[int, typer.Option(help="Open connections; beyond: 503.")] = 256,
    deadline: Annotated[float, typer.Option(help="Seconds for an answer; beyond: 504.")] = 60,
    transfer: Annotated[
        float, typer.Option(help="Seconds for a request to arrive, or for a stalled answer.")
    ] = 30,
    page: Annotated[bool, typer.Option(help="A page for browsers at /.")] = True,
    examples: Annotated[
        Path | None, typer.Option(help="Folder of images to offer on the page.")
    ] = None,
    access_log: Annotated[bool, typer.Option("--access-log", help="A line per request.")] = False,
) -> None:
    """Answer requests with masks, overlays or numbers, and show a page, until Ctrl-C or SIGTERM."""
    from atrous.engines import TTA
    from atrous.extras import import_extra

    for package in ("fastapi", "uvicorn", "prometheus_client", "python_multipart"):
        import_extra(package, "serve")
    from atrous.serve import Limits, build_service
    from atrous.serve.app import build_app
    from atrous.serve.server import build_server, open_socket, run_server

    limits = Limits(
        max_body_bytes=round(max_body_mb * 1e6),
        max_pixels=round(max_megapixels * 1e6),
        max_side_px=max_side,
        max_held_bytes=round(max_memory_mb * 1e6),
        max_waiting=max_waiting,
        max_batch=max_batch,
        max_connections=max_connections,
        deadline_s=deadline,
        transfer_s=transfer,
    )
    warnings.filterwarnings("ignore", module="PIL")  # of damaged images; their sender is told
    token = read_token(token_file)
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
    app = build_app(service, token)
    if page:
        from atrous.serve.page import add_page

        add_page(app, limits, examples)
    listener = open_socket(host, port)
    address, taken_port = listener.getsockname()[:2]
    url = f"http://{f'[{address}]' if ':' in address else address}:{taken_port}"
    console = Console(stderr=True)
    if token is None and host not in ("127.0.0.1", "localhost", "::1"):
        console.print(
            "[yellow]Anybody who reaches this machine can use the server:[/] there is no token. "
            "See --token-file.",
            highlight=False,
        )

    def tell_ready() -> None:
        engines = ", ".join(
            f"{name} ({one.name}, {one.precision})" for name, one in service.engines.items()
        )
        ready = f"Ready at {url}: {escape(engines)}. Ctrl-C stops."
        console.print(ready, highlight=False, soft_wrap=True)

    server = build_server(service, app, access_log=access_log)
    run_server(server, listener, tell_ready=tell_ready)
    if server.force_exit:
        raise KeyboardInterrupt
    console.print("Stopped; every image that was taken is answered.", highlight=False)


def read_token(path: Path | None) -> str | None:
    """Return the token of a file, else of the environment, else none.

    Raises:
        ConfigError: The file cannot be read, or the token is empty or has strange characters.
    """
    if path is None:
        token, source = os.environ.get(TOKEN_VARIABLE), TOKEN_VARIABLE
        if token is None:
            return None
    else:
        try:
            token, source = path.read_text(encoding="utf-8").strip(), str(path)
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "it is no text"
            raise ConfigError(
                f"The token cannot be read from {path}: {reason}. Write one into it, such as that "
                "of: openssl rand -hex 32"
            ) from None
    if not token or not token.isascii() or not token.isprintable() or " " in token:
        raise ConfigError(
            f"The token of {source} must be letters, digits and signs in one line, without "
            "spaces, and not empty. Make one with: openssl rand -hex 32"
        )
    return token
