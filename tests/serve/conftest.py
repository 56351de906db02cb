"""A server in this process, with a model whose predictions are known."""

import threading
import time
from dataclasses import dataclass, field

import pytest

from atrous.engines import TorchEngine

pytest.importorskip("fastapi", reason="the server needs fastapi")
pytest.importorskip("prometheus_client", reason="the server needs prometheus-client")
httpx = pytest.importorskip("httpx", reason="these tests need httpx")

from atrous.serve.app import build_app  # noqa: E402
from atrous.serve.limits import Limits  # noqa: E402
from atrous.serve.listening import open_socket  # noqa: E402
from atrous.serve.server import Server  # noqa: E402
from atrous.serve.service import Service  # noqa: E402


class HeldEngine(TorchEngine):
    """Blocks in every batch until `go` is set, and records the batch sizes."""

    def __init__(self, model) -> None:
        super().__init__(model)
        self.go = threading.Event()
        self.go.set()
        self.started = threading.Event()
        self.sizes: list[int] = []

    def predict_masks(self, images, check=lambda: None):
        self.started.set()
        assert self.go.wait(20)
        self.sizes.append(len(images))
        return super().predict_masks(images, check)

    def hold(self) -> None:
        self.go.clear()
        self.started.clear()


@dataclass
class Running:
    """A running server and a client."""

    service: Service
    server: Server
    port: int
    thread: threading.Thread
    client: "httpx.Client" = field(init=False)

    def __post_init__(self) -> None:
        self.client = httpx.Client(base_url=f"http://127.0.0.1:{self.port}", timeout=20)

    def stop(self) -> None:
        self.client.close()
        self.server.should_exit = True
        self.thread.join(20)
        assert not self.thread.is_alive()
        self.service.stop()

    def wait_for(self, condition) -> None:
        for _ in range(3000):
            if condition():
                return
            time.sleep(0.01)
        raise AssertionError("the condition did not become true within thirty seconds")

    def count(self, name: str) -> float:
        """The value of a metric, with its labels if it has any."""
        for line in self.client.get("/metrics").text.splitlines():
            if line.startswith(f"{name} "):
                return float(line.rpartition(" ")[2])
        return 0.0


@pytest.fixture
def engine(color_model):
    return HeldEngine(color_model)


@pytest.fixture
def serve(request):
    """Start servers; they are stopped at the end."""
    started = []

    def start(limits=None, *, load=True, names=("colors",), engine=None, **options):
        engine = engine or request.getfixturevalue("engine")
        service = Service(dict.fromkeys(names, lambda: engine), limits or Limits())
        if load:
            service.load()
            getattr(engine, "sizes", []).clear()
        server = Server(service, build_app(service, **options))
        listener = open_socket("127.0.0.1", 0)
        port = listener.getsockname()[1]
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        started.append(Running(service, server, port, thread))
        return started[-1]

    yield start
    for running in started:
        getattr(running.service.engines.get("colors"), "go", threading.Event()).set()
    for running in started:
        running.stop()
