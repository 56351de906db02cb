"""Metrics in the format of Prometheus."""

from functools import partial

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from atrous.serve.service import Service

_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_SIZES = (1, 2, 4, 8, 16, 32)


class Meter:
    """Middleware that counts and times requests, by path: one of `paths`, else `other`."""

    def __init__(
        self, app: ASGIApp, service: Service, registry: CollectorRegistry, paths: frozenset[str]
    ) -> None:
        self.app = app
        self.paths = paths
        counter, gauge = partial(Counter, registry=registry), partial(Gauge, registry=registry)
        histogram = partial(Histogram, registry=registry)
        labels = ["path", "status"]
        self.requests = counter("atrous_requests", "Responses, by path and status.", labels)
        self.seconds = histogram(
            "atrous_request_seconds", "Seconds until the response ends.", ["path"], buckets=_SECONDS
        )
        self.cancelled = counter("atrous_cancelled", "Requests whose client disconnected.")
        self.rejected = counter("atrous_rejected", "Rejected requests, by status.", ["status"])
        self.active = gauge("atrous_active_requests", "Requests in progress.")
        queue, memory = service.queue, service.memory
        gauge("atrous_queue_images", "Images in the queue.").set_function(lambda: queue.num_waiting)
        held = gauge("atrous_held_bytes", "Memory of bodies and decoded images.")
        held.set_function(lambda: memory.reserved_bytes)
        batches = histogram("atrous_batch_images", "Images per batch.", buckets=_SIZES)
        service.observe_batch = batches.observe

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Forward a request and count it."""
        path = scope["path"] if scope["path"] in self.paths else "other"
        status = 500

        async def send_and_note(message: Message) -> None:
            nonlocal status
            status = message.get("status", status)
            await send(message)

        try:
            with self.active.track_inprogress(), self.seconds.labels(path).time():
                await self.app(scope, receive, send_and_note)
        except ClientDisconnect:
            status = 499  # as others count it; it is not sent
            self.cancelled.inc()
        finally:
            self.requests.labels(path, status).inc()
            if status >= 400 and status not in (499, 500):
                self.rejected.labels(status).inc()
