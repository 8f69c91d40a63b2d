"""What the service tells whoever measures it; the default listens to nothing."""

from __future__ import annotations


class Observer:
    """Calls come from the service's threads, between launches: they must be short."""

    def on_launch(self, seconds: float, slots: int, rows: int) -> None:
        """The step graph ran once."""

    def on_stage(self, stage: str, seconds: float) -> None:
        """A stage of one request is done: window, encode, decode, paste..."""

    def on_start(self, queue_s: float) -> None:
        """A request's first image entered a lane after so long."""

    def on_cancel(self, at: str) -> None:
        """A request was given up: waiting, running, or by its deadline."""

    def on_device_fault(self, is_fatal: bool) -> None:
        """A launch failed."""
