"""Figures and plot of a load test: throughput, latency and waiting time by admission policy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from alterbute.serve.scheduler.admission import Admission

STEPS: Final = (8, 20, 40)
"""Denoising steps of the requests, in equal shares."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """Result of a request: steps, latency and waiting time in seconds, and a digest of its image."""

    steps: int
    latency_s: float
    queue_s: float
    digest: str


def percentiles(values: Sequence[float]) -> dict[str, float]:
    """p50, p90, p99 and mean of values in seconds."""
    figures = {f"p{rank}": float(np.percentile(values, rank)) for rank in (50, 90, 99)}
    return {name: round(value, 4) for name, value in {**figures, "mean": float(np.mean(values))}.items()}


def summarise(
    records: Sequence[Record], makespan_s: float, deadline_s: float, images_per_launch: float
) -> dict[str, object]:
    """Throughput, latency and waiting time of one policy over all rounds.

    Args:
        records: One record per request.
        makespan_s: Seconds from the start until the last reply, summed over rounds.
        deadline_s: Latency in seconds up to which a request is on time.
        images_per_launch: Mean number of images in a launch.
    """
    latency = [record.latency_s for record in records]
    return {
        "requests": len(records),
        "throughput_per_s": round(len(records) / makespan_s, 4),
        "goodput_per_s": round(sum(value <= deadline_s for value in latency) / makespan_s, 4),
        "within_deadline": round(sum(value <= deadline_s for value in latency) / len(records), 4),
        "latency_s": percentiles(latency),
        "queue_s": percentiles([record.queue_s for record in records]),
        "latency_by_steps_s": {
            str(steps): percentiles([record.latency_s for record in records if record.steps == steps])
            for steps in STEPS
        },
        "images_per_launch": round(images_per_launch, 3),
    }


def compare(summaries: Mapping[Admission, dict[str, object]]) -> dict[str, float]:
    """Ratios of step-level to request-level batching: below 1 is better for latency, above 1 for throughput."""
    step, request = summaries["step"], summaries["request"]

    def ratio(*path: str) -> float:
        values: list[object] = [step, request]
        for key in path:
            values = [value[key] for value in values if isinstance(value, dict)]
        return round(float(str(values[0])) / float(str(values[1])), 3)

    return {
        "median": ratio("latency_s", "p50"),
        "p99": ratio("latency_s", "p99"),
        "p99_of_8_steps": ratio("latency_by_steps_s", "8", "p99"),
        "throughput": ratio("throughput_per_s"),
        "goodput": ratio("goodput_per_s"),
    }


def draw_plot(path: Path, latencies: dict[str, list[Record]], title: str) -> None:
    """Plot the share of finished requests over latency, for all requests and for those of 8 steps.

    Args:
        path: The picture's path.
        latencies: Records by policy.
        title: Title of the plot.
    """
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(10, 4), sharey=True)
    for axis, steps in zip(axes, (None, STEPS[0]), strict=True):
        for name, records in latencies.items():
            values = np.sort([record.latency_s for record in records if steps in (None, record.steps)])
            axis.plot(values, np.arange(1, len(values) + 1) / len(values), label=name)
        axis.set_xscale("log")
        axis.set_xlabel("latency, s")
        axis.set_title("all requests" if steps is None else f"requests of {steps} steps")
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("share of requests done")
    axes[0].legend()
    figure.suptitle(title)
    figure.tight_layout()
    figure.savefig(path, dpi=110)
