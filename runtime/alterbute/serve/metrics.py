"""Prometheus metrics, in a registry of their own, and the observer that feeds them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from alterbute.serve.scheduler.observer import Observer

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
_SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 30, 60, 120)
_IMAGES: Final = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64)
_REASONS: Final = ("queue_full", "rate", "draining", "too_large", "bad_image", "bad_request", "deadline", "auth")


class Metrics(Observer):
    """Everything that is counted. Names and labels are an interface: dashboards are built on them."""

    def __init__(self, *, model: str, sha256: str, backend: str, precision: str) -> None:
        self.registry = registry = CollectorRegistry()
        self._model = model
        self.requests = Counter(
            "alterbute_requests", "Requests answered.", ["model", "endpoint", "code"], registry=registry
        )
        self.rejected = Counter(
            "alterbute_requests_rejected", "Requests refused, by reason.", ["reason"], registry=registry
        )
        self.duration = Histogram(
            "alterbute_request_duration_seconds",
            "A request, until its response is out.",
            ["endpoint"],
            buckets=_SECONDS,
            registry=registry,
        )
        self.queue = Histogram(
            "alterbute_queue_duration_seconds",
            "From acceptance to the first launch.",
            buckets=_SECONDS,
            registry=registry,
        )
        self.stage = Histogram(
            "alterbute_stage_duration_seconds",
            "One stage of one request.",
            ["stage"],
            buckets=_SECONDS,
            registry=registry,
        )
        self.steps = Counter("alterbute_steps", "Denoising steps, one per image and launch.", registry=registry)
        self.batch = Histogram("alterbute_batch_size", "Images in a launch.", buckets=_IMAGES, registry=registry)
        self.cancelled = Counter(
            "alterbute_cancelled", "Requests given up, by where they were.", ["at"], registry=registry
        )
        self.faults = Counter("alterbute_device_faults", "Failed launches.", ["fatal"], registry=registry)
        self.bytes_written = Counter("alterbute_response_bytes", "Bytes of response bodies.", registry=registry)
        Gauge(
            "alterbute_bundle_info",
            "1, with what is served.",
            ["bundle", "sha256", "backend", "precision"],
            registry=registry,
        ).labels(model, sha256, backend, precision).set(1)
        for reason in _REASONS:  # so that rates exist before the first refusal
            self.rejected.labels(reason)

    def watch(
        self, *, running: Callable[[], float], waiting: Callable[[], float], memory_bytes: Callable[[], float]
    ) -> None:
        """Gauges that are read when they are asked for: they cannot drift."""
        Gauge("alterbute_requests_running", "Requests in a lane.", registry=self.registry).set_function(running)
        Gauge("alterbute_requests_waiting", "Images that wait for a slot.", registry=self.registry).set_function(
            waiting
        )
        Gauge(
            "alterbute_memory_reserved_bytes", "Memory taken for bodies and pictures.", registry=self.registry
        ).set_function(memory_bytes)

    def render(self) -> bytes:
        """The text that `/metrics` gives."""
        return generate_latest(self.registry)

    def on_response(self, *, endpoint: str, status: int, seconds: float, size_bytes: int) -> None:
        """A response is out."""
        self.requests.labels(self._model, endpoint, str(status)).inc()
        self.duration.labels(endpoint).observe(seconds)
        self.bytes_written.inc(size_bytes)

    def on_reject(self, reason: str) -> None:
        """A request was refused."""
        self.rejected.labels(reason if reason in _REASONS else "bad_request").inc()

    def on_launch(self, seconds: float, slots: int, rows: int) -> None:
        """As `Observer`."""
        self.steps.inc(slots)
        self.batch.observe(slots)
        self.stage.labels("denoise").observe(seconds)

    def on_stage(self, stage: str, seconds: float) -> None:
        """As `Observer`."""
        self.stage.labels(stage).observe(seconds)

    def on_start(self, queue_s: float) -> None:
        """As `Observer`."""
        self.queue.observe(queue_s)

    def on_cancel(self, at: str) -> None:
        """As `Observer`."""
        self.cancelled.labels(at).inc()

    def on_device_fault(self, is_fatal: bool) -> None:
        """As `Observer`."""
        self.faults.labels(str(is_fatal).lower()).inc()
