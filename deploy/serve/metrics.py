"""What Prometheus is told."""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, PlatformCollector, ProcessCollector

from .model import ServedModel

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


class Metrics:
    """The figures of one server."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        model = {"labelnames": ("model",), "namespace": "paddlepatch", "registry": self.registry}
        self.requests = Counter(
            "requests", "Pictures that were sent, by the answer's HTTP status",
            ("model", "status"), namespace="paddlepatch", registry=self.registry,
        )  # fmt: skip
        self.defective = Counter("defective", "Pictures that were called defective", **model)
        self.seconds = Histogram("request_seconds", "From a request's head to its answer", buckets=SECONDS, **model)
        self.batch = Histogram("batch_pictures", "Pictures of one run", buckets=(1, 2, 4, 8, 16, 32, 64), **model)
        self.waiting = Gauge("waiting_pictures", "Pictures that wait or are being scored", **model)
        self.up = Gauge("model_up", "Whether the model's process lives", **model)
        self.memory = Gauge("model_memory_bytes", "Resident memory of the model's process", **model)
        self.held = Gauge("held_bytes", "Request bodies in memory", namespace="paddlepatch", registry=self.registry)

    def watch(self, models: Iterable[ServedModel]) -> None:
        """Ask the models when somebody asks for the figures."""
        for model in models:
            self.up.labels(model.name).set_function(lambda model=model: float(model.up))
            self.memory.labels(model.name).set_function(lambda model=model: float(model.memory))
            self.waiting.labels(model.name)
