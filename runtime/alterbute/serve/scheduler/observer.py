"""Callbacks of the service for metrics; the default implementation ignores them."""

from __future__ import annotations


class Observer:
    """Called from the service's threads between launches, so calls must be short."""

    def on_launch(self, seconds: float, slots: int, rows: int) -> None:
        """Called after a launch of the step graph.

        Args:
            seconds: Duration of the launch.
            slots: Images in the launch.
            rows: UNet rows in the launch.
        """

    def on_stage(self, stage: str, seconds: float) -> None:
        """Called after a stage of a request (`window`, `encode`, `vae_decode`, `compose`), with its seconds."""

    def on_start(self, queue_s: float) -> None:
        """Called when a request's first image enters a lane, with the seconds that it waited."""

    def on_cancel(self, at: str) -> None:
        """Called when a request is given up: `waiting`, `running`, or by its `deadline`."""

    def on_device_fault(self, is_fatal: bool) -> None:
        """Called after a launch that failed."""
