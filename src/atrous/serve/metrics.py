"""Metrics in the format of Prometheus."""

import time

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from atrous.serve.service import Service

_CLIENT_CLOSED = 499
"""Status under which requests of disconnected clients are counted; it is never received."""

_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_SIZES = (1, 2, 4, 8, 16, 32)


class Meter:
    """Middleware that counts requests and measures their time.

    Args:
        app: The application.
        service: The models, whose queue is measured too.
        registry: Receives the metrics.
        paths: Paths of the API; all others are counted as `other`.
    """

    def __init__(
        self, app: ASGIApp, service: Service, registry: CollectorRegistry, paths: frozenset[str]
    ) -> None:
        self.app = app
        self.service = service
        self.paths = paths
        self.requests = Counter(
            "atrous_requests", "Responses, by path and status.", ["path", "status"],
            registry=registry,
        )  # fmt: skip
        self.seconds = Histogram(
            "atrous_request_seconds", "Time from the headers to the end of the response.", ["path"],
            buckets=_SECONDS, registry=registry,
        )  # fmt: skip
        self.cancelled = Counter(
            "atrous_cancelled", "Requests whose client disconnected.", registry=registry
        )
        self.rejected = Counter(
            "atrous_rejected", "Rejected requests, by status.", ["status"], registry=registry
        )
        batches = Histogram(
            "atrous_batch_images", "Images per batch.", buckets=_SIZES, registry=registry
        )
        service.observe_batch = batches.observe
        for name, help_text, read in (
            ("atrous_queue_images", "Images in the queue.", lambda: service.queue.num_waiting),
            ("atrous_active_requests", "Requests in progress.", lambda: service.num_active),
            ("atrous_held_bytes", "Memory of bodies and decoded images.",
             lambda: service.memory.reserved_bytes),
        ):  # fmt: skip
            Gauge(name, help_text, registry=registry).set_function(read)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Forward a request and count it."""
        path = scope["path"] if scope["path"] in self.paths else "other"
        start_s, status = time.perf_counter(), 500

        async def send_and_note(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        self.service.num_active += path != "other"
        try:
            await self.app(scope, receive, send_and_note)
        except ClientDisconnect:
            status = _CLIENT_CLOSED
        finally:
            self.service.num_active -= path != "other"
            self.requests.labels(path, status).inc()
            self.seconds.labels(path).observe(time.perf_counter() - start_s)
            if status == _CLIENT_CLOSED:
                self.cancelled.inc()
            elif status >= 400 and status != 500:
                self.rejected.labels(status).inc()
