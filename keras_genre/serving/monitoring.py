"""What a server counts, in Prometheus' form."""

import prometheus_client
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

SECONDS = (0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
ROWS = (1, 2, 4, 8, 16, 32, 64, 128)


class Metrics:
    """The counters of one server.

    Attributes
    ----------
    requests, seconds
        Of answered requests, by what they asked for; `requests` by status too.
    batch_rows, batch_seconds
        Of batches.
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        prometheus_client.ProcessCollector(registry=self.registry)
        self.requests = Counter(
            "keras_genre_requests", "Requests answered", ["endpoint", "status"], registry=self.registry
        )
        self.seconds = Histogram(
            "keras_genre_request_seconds",
            "Time from a request's first line to its answer",
            ["endpoint"],
            buckets=SECONDS,
            registry=self.registry,
        )
        self.batch_rows = Histogram(
            "keras_genre_batch_rows", "Rows computed together", buckets=ROWS, registry=self.registry
        )
        self.batch_seconds = Histogram(
            "keras_genre_batch_seconds", "Time of a batch in the model", buckets=SECONDS, registry=self.registry
        )

    def gauge(self, name: str, meaning: str, value) -> None:
        """Show what the function `value` returns whenever the metrics are read."""
        Gauge(name, meaning, registry=self.registry).set_function(value)

    def text(self) -> bytes:
        """Return all metrics as text."""
        return prometheus_client.generate_latest(self.registry)
