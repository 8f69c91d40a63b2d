"""Plots of the results: time of an edit by graph, and its dependence on the photo's size."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

_ORDER: Final = ("window", "scene", "identity", "prompt", "step", "decode", "paste", "paste16")


def draw_plots(results: Path) -> None:
    """Draw a PNG beside each result file that exists."""
    import matplotlib

    matplotlib.use("Agg")
    for name, draw in (("latency", draw_latency), ("photo_size", draw_photo_size)):
        file = results / f"{name}.json"
        if file.exists():
            draw(json.loads(file.read_text(encoding="utf-8")), results / f"{name}.png")


def draw_latency(entries: dict[str, Any], path: Path) -> None:
    """Draw one bar per bundle: the share of a first edit's time by graph; the rest is spent on the host."""
    from matplotlib import pyplot

    figure, axis = pyplot.subplots(figsize=(8, 1 + 0.7 * len(entries)))
    for row, entry in enumerate(entries.values()):
        # Means: medians of parts do not add up to the median of the whole.
        whole, left = entry["first_edit"]["mean_ms"], 0.0
        for color, graph in enumerate(_ORDER):
            times = entry["graphs"].get(graph)
            if times is None:
                continue
            width = times["mean_ms"] * times["n"] / entry["first_edit"]["n"] / whole
            axis.barh(row, width, left=left, color=f"C{color}", label=graph if row == 0 else None)
            left += width
        axis.barh(
            row, max(0.0, 1 - left), left=left, color="lightgrey", label="outside the engine" if row == 0 else None
        )
    axis.set(yticks=range(len(entries)), yticklabels=list(entries), xlim=(0, 1), xlabel="share of a first edit")
    axis.legend(ncols=4, fontsize=7, loc="upper center", bbox_to_anchor=(0.5, -0.35))
    figure.savefig(path, dpi=110, bbox_inches="tight")


def draw_photo_size(entries: dict[str, Any], path: Path) -> None:
    """Draw the time of an edit by photo size, relative to a 512x512 photo."""
    from matplotlib import pyplot

    figure, axis = pyplot.subplots(figsize=(8, 3.2))
    cases = next(iter(entries.values()))["cases"]
    for offset, (name, entry) in enumerate(entries.items()):
        ratios = [entry["cases"].get(case, {}).get("ratio", 0.0) for case in cases]
        places = [place + 0.8 * offset / len(entries) for place in range(len(cases))]
        axis.barh(places, ratios, height=0.8 / len(entries), label=name)
    axis.axvline(1.15, color="black", linewidth=0.8, linestyle=":")
    axis.set(
        yticks=range(len(cases)),
        yticklabels=[case.replace(", ", "\n", 1) for case in cases],
        xlabel="first edit, relative to the base",
    )
    axis.invert_yaxis()
    axis.legend(fontsize=7)
    figure.tight_layout()
    figure.savefig(path, dpi=110)
