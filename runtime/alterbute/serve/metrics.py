"""Prometheus metrics in a registry of their own; implements the scheduler's `Observer`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from alterbute.serve.scheduler.observer import Observer

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
_SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 30, 60, 120)
_IMAGES: Final = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64)
_REASONS: Final = (
    "queue_full",
    "memory",
    "connections",
    "rate",
    "draining",
    "too_large",
    "bad_image",
    "bad_request",
    "deadline",
    "auth",
)


class Metrics(Observer):
    """The server's metrics. Names and labels are an interface, because dashboards depend on them.

    Args:
        model: The bundle's name.
        sha256: SHA-256 of its manifest.
        backend: Name of the backend.
        precision: Type in which the backend runs the step graph.
    """

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
        """Register gauges whose values are read when `/metrics` is read.

        Args:
            running: Returns how many requests are in a lane.
            waiting: Returns how many images wait for a slot.
            memory_bytes: Returns the bytes that are reserved.
        """
        Gauge("alterbute_requests_running", "Requests in a lane.", registry=self.registry).set_function(running)
        Gauge("alterbute_requests_waiting", "Images that wait for a slot.", registry=self.registry).set_function(
            waiting
        )
        Gauge(
            "alterbute_memory_reserved_bytes", "Memory taken for bodies and pictures.", registry=self.registry
        ).set_function(memory_bytes)

    def render(self) -> bytes:
        """The metrics in Prometheus' text format."""
        return generate_latest(self.registry)

    def on_response(self, *, endpoint: str, status: int, seconds: float, size_bytes: int) -> None:
        """Count a response that was sent.

        Args:
            endpoint: Path of the route.
            status: HTTP status.
            seconds: Time from the request's first byte to the response's last.
            size_bytes: Size of the response's body.
        """
        self.requests.labels(self._model, endpoint, str(status)).inc()
        self.duration.labels(endpoint).observe(seconds)
        self.bytes_written.inc(size_bytes)

    def on_reject(self, reason: str) -> None:
        """Count a request that was refused, by reason."""
        self.rejected.labels(reason if reason in _REASONS else "bad_request").inc()

    def on_launch(self, seconds: float, slots: int, rows: int) -> None:
        """Count a launch of the step graph.

        Args:
            seconds: Duration of the launch.
            slots: Images in the launch.
            rows: UNet rows in the launch.
        """
        self.steps.inc(slots)
        self.batch.observe(slots)
        self.stage.labels("denoise").observe(seconds)

    def on_stage(self, stage: str, seconds: float) -> None:
        """Record the seconds of a stage of an edit."""
        self.stage.labels(stage).observe(seconds)

    def on_start(self, queue_s: float) -> None:
        """Record how many seconds a request waited for its first launch."""
        self.queue.observe(queue_s)

    def on_cancel(self, at: str) -> None:
        """Count a request that was given up, by its place: `waiting`, `running` or `deadline`."""
        self.cancelled.labels(at).inc()

    def on_device_fault(self, is_fatal: bool) -> None:
        """Count a failed launch."""
        self.faults.labels(str(is_fatal).lower()).inc()
