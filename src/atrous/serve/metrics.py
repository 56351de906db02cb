"""What the server counts, in the form that Prometheus reads."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from atrous.serve.service import Service

_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_SIZES = (1, 2, 4, 8, 16, 32)


class Metrics:
    """Counters of one server, apart from all others in the process."""

    content_type = CONTENT_TYPE_LATEST

    def __init__(self, service: Service) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "atrous_requests", "Answers, by path and status.", ["path", "status"],
            registry=self.registry,
        )  # fmt: skip
        self.seconds = Histogram(
            "atrous_request_seconds", "From the head of a request to the end of its answer.",
            ["path"], buckets=_SECONDS, registry=self.registry,
        )  # fmt: skip
        self.batches = Histogram(
            "atrous_batch_images", "Images that a model saw at once.",
            buckets=_SIZES, registry=self.registry,
        )  # fmt: skip
        self.cancelled = Counter(
            "atrous_cancelled", "Requests whose sender left before the answer.",
            registry=self.registry,
        )  # fmt: skip
        self.rejected = Counter(
            "atrous_rejected", "Requests that were refused, by status.", ["status"],
            registry=self.registry,
        )  # fmt: skip
        for name, help_text, read in (
            ("atrous_queue_images", "Images that wait for their model.",
             lambda: service.num_waiting),
            ("atrous_active_requests", "Requests being read, run or answered.",
             lambda: service.num_active),
            ("atrous_held_bytes", "Bodies and images in memory.",
             lambda: service.memory.held_bytes),
        ):  # fmt: skip
            Gauge(name, help_text, registry=self.registry).set_function(read)
        service.observe_batch = self.batches.observe

    def render(self) -> bytes:
        """Return all of them as text."""
        return generate_latest(self.registry)
