"""Metrics of the server in Prometheus' format."""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, PlatformCollector, ProcessCollector

from .model import ModelProcess
from .shelf import Load

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


class Metrics:
    """The metrics of one server."""

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
        self.loads = Counter("loads", "How often the model was loaded", **model)
        self.evictions = Counter("evictions", "How often the model was dropped to load another one", **model)
        self.load_seconds = Histogram("load_seconds", "Loading of a model", buckets=SECONDS, **model)
        self.loaded = Gauge("loaded_models", "Models that are loaded, of the model or folder", **model)
        self.up = Gauge("model_up", "Whether the process of the model or folder answers", **model)
        self.memory = Gauge("model_memory_bytes", "Resident memory of the process of the model or folder", **model)
        self.held = Gauge("held_bytes", "Request bodies in memory", namespace="paddlepatch", registry=self.registry)

    def on_batch(self, model: str, pictures: int) -> None:
        """Record the number of pictures that are scored in one run."""
        self.batch.labels(model).observe(pictures)

    def on_load(self, model: str, load: Load) -> None:
        """Record that a model was loaded, and which models were dropped for it."""
        self.loads.labels(model).inc()
        self.load_seconds.labels(model).observe(load.seconds)
        for dropped in load.dropped:
            self.evictions.labels(dropped).inc()

    def watch(self, processes: Iterable[ModelProcess]) -> None:
        """Read state and memory of these processes whenever the metrics are requested."""
        for process in processes:
            self.up.labels(process.name).set_function(lambda process=process: float(process.up))
            self.memory.labels(process.name).set_function(lambda process=process: float(process.memory))
            self.loaded.labels(process.name).set_function(lambda process=process: float(len(process.loaded)))
            for model in process.jobs:
                for figure in (self.waiting, self.batch, self.loads, self.evictions):
                    figure.labels(model)  # so that it is shown as 0 from the start
