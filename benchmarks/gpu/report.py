"""Report of the results: a Markdown table and a plot."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any


def table(results: list[dict[str, Any]]) -> str:
    """Markdown table with a row per model, contender and case; a contender that failed has one row without times."""
    lines = [
        "| model | contender | parity (latents, PSNR) | case | edits p50 ms | step GPU ms | host share | TFLOP/s | share of peak |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    lines += [f"| {' | '.join(row)} |" for result in results for row in _rows(result)]
    return "\n".join(lines) + "\n"


def _rows(result: dict[str, Any]) -> Iterator[tuple[str, ...]]:
    parity = result.get("parity")
    errors = f"{parity['latents_relative']:.1e}, {parity['psnr_db']} dB" if parity else "reference"
    if not result.get("cases"):
        yield (
            result["model"],
            result["contender"],
            errors if parity else "",
            result.get("error", "fails parity: not timed"),
            *[""] * 5,
        )
    for case in result.get("cases", []):
        yield (
            result["model"],
            result["contender"],
            errors,
            case["case"],
            f"{case['edits_ms']['p50']:.1f}",
            f"{case['step_gpu_ms']:.2f}",
            f"{case['host_share']:.1%}",
            _format_number(case["achieved_tflops"], "{:.0f}"),
            _format_number(case["share_of_peak"], "{:.0%}"),
        )


def plot(results: list[dict[str, Any]], path: Path) -> None:
    """Plot milliseconds per image over the batch size: a panel per model and kind of edit, a line per contender."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    kinds = sorted(
        {(result["model"], case["case"].rsplit(",", 1)[0]) for result in results for case in result.get("cases", [])}
    )
    if not kinds:
        return
    figure, axes = pyplot.subplots(1, len(kinds), figsize=(5 * len(kinds), 4), squeeze=False)
    for axis, (model, kind) in zip(axes[0], kinds, strict=True):
        for result in results:
            measured = [
                case
                for case in result.get("cases", [])
                if result["model"] == model and case["case"].startswith(kind + ",")
            ]
            batches = [int(case["case"].rsplit(" ", 1)[1]) for case in measured]
            if measured:
                per_image = [case["edits_ms"]["p50"] / batch for case, batch in zip(measured, batches, strict=True)]
                axis.plot(batches, per_image, marker="o", label=result["contender"])
        axis.set(title=f"{model}, {kind}", xlabel="images at once", ylabel="ms per image", xscale="log", yscale="log")
        axis.legend(fontsize=7)
    figure.tight_layout()
    figure.savefig(path, dpi=120)


def _format_number(value: float | None, spec: str) -> str:
    return "" if value is None else spec.format(value)
