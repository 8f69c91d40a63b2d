"""Report of the results: Markdown tables and a plot."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.gpu.cases import STEPS
from benchmarks.gpu.roofline import floor_ms, read_ceilings

Stages = Mapping[str, Mapping[str, Any]]


def describe_results(document: Mapping[str, Any]) -> str:
    """The report in Markdown: stages, steps beside each other, edits, and the roofline, each with what was measured."""
    stages: Stages = document["stages"]
    facts: Mapping[str, Any] = next((entry["before"] for entry in stages.values() if "before" in entry), {})
    where = f"{facts.get('card', 'no GPU')}, driver {facts.get('driver') or '-'}, commit {facts.get('commit') or '-'}"
    tables = (
        _table(("stage", "status", "seconds", "measured", "remark"), _stage_rows(stages)),
        _table(
            ("step", "batch", "ms", "TFLOP/s", "share of ceiling", "images/s of 20 steps", "error", "remark"),
            _step_rows(stages),
        ),
        _table(
            ("edit", "p50 ms", "p90 ms", "p99 ms", "images/s", "host share of the loop", "remark"), _edit_rows(stages)
        ),
        _table(("graph", "GFLOP", "weights MB", "floor ms", "measured ms", "share"), _roofline_rows(stages)),
    )
    return f"Measured on {where}. Weights: {facts.get('weights', 'random')}.\n\n" + "\n".join(
        table for table in tables if table
    )


def draw_plot(document: Mapping[str, Any], path: Path) -> bool:
    """Draw the step's milliseconds by contender, with the floor, and images per second over the batch size; False without matplotlib."""
    try:
        import matplotlib

        matplotlib.use("Agg")
        from matplotlib import pyplot
    except ImportError:
        return False
    stages: Stages = document["stages"]
    steps = [(name, case["batch"], case["ms"]) for name, case in _steps(stages) if "ms" in case]
    if not steps:
        return False
    single = [(name, ms) for name, batch, ms in steps if batch == 1]
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(13, 1.5 + 0.3 * len(single)))
    left.barh([name for name, _ in single], [ms for _, ms in single])
    floor = _step_floor(stages)
    if floor is not None:
        left.axvline(floor, color="black", linestyle=":", label="floor by the measured ceilings")
        left.legend(fontsize=7)
    left.invert_yaxis()
    left.set(xlabel="ms of one guided step, batch 1")
    for kind in ("batches", "torch-batches"):
        points = [(batch, 1000 * batch / (STEPS * ms)) for name, batch, ms in steps if name.startswith(f"{kind},")]
        if points:
            right.plot(*zip(*points, strict=True), marker="o", label=kind)
            right.legend(fontsize=7)
    right.set(xlabel="images at once", ylabel=f"images per second, {STEPS} steps alone")
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    return True


def _stage_rows(stages: Stages) -> Iterator[Sequence[str]]:
    for name, entry in stages.items():
        failed = "; ".join(f"{case}: {reason[:120]}" for case, reason in entry.get("failed", {}).items())
        remark = "; ".join(filter(None, [entry.get("reason", ""), failed]))
        yield name, entry["status"], _number(entry.get("seconds"), "{:.0f}"), entry["measures"], remark


def _steps(stages: Stages) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every measured step: its name, and its batch, milliseconds, error and whether it passes."""
    for stage, entry in stages.items():
        for name, case in entry["cases"].items():
            ms = case.get("step_gpu_ms", case.get("step_ms"))
            if ms is not None:
                yield f"{stage}, {name}", {"batch": 1, **case, "ms": ms}


def _step_rows(stages: Stages) -> Iterator[Sequence[str]]:
    ceilings = read_ceilings(stages)
    for name, case in _steps(stages):
        gflop = _step_gflop(stages, name)
        tflops = gflop * case["batch"] / case["ms"] if gflop else None
        share = tflops / ceilings["tflops"] if tflops and "tflops" in ceilings else None
        marks = ["" if case.get("passes", True) else "FAILS PARITY"]
        marks += [f"compiled in {case['compile_s']} s"] if "compile_s" in case else []
        marks += [f"torch's weights: {case['torch_weights']}"] if "torch_weights" in case else []
        yield (
            name,
            str(case["batch"]),
            f"{case['ms']:.3f}",
            _number(tflops, "{:.0f}" if (tflops or 0) > 10 else "{:.3f}"),
            _number(share, "{:.1%}"),
            f"{1000 * case['batch'] / (STEPS * case['ms']):.2f}",
            _number(case.get("relative_error"), "{:.1e}"),
            "; ".join(filter(None, marks)),
        )


def _edit_rows(stages: Stages) -> Iterator[Sequence[str]]:
    for stage, entry in stages.items():
        for name, case in entry["cases"].items():
            if "psnr_db" in case:
                said = f"latents {case['latents_relative']:.1e}, PSNR {case['psnr_db']} dB against {case['reference']}"
                yield f"{stage}, {name}", "", "", "", "", "", said + ("" if case["passes"] else ": FAILS PARITY")
            if "edits_ms" in case:
                times = case["edits_ms"]
                remark = [f"first edit {case['first_edit_s']} s"] if "first_edit_s" in case else []
                remark += [f"warm-up {case['warm_up_s']} s"] if "warm_up_s" in case else []
                remark += [f"{case['memory_mb']} MB"] if case.get("memory_mb") is not None else []
                yield (
                    f"{stage}, {name}",
                    *(f"{times[rank]:.1f}" for rank in ("p50", "p90", "p99")),
                    _number(case.get("images_per_s"), "{:.2f}"),
                    _number(case.get("host_share"), "{:.1%}"),
                    ", ".join(remark),
                )


def _roofline_rows(stages: Stages) -> Iterator[Sequence[str]]:
    ceilings = read_ceilings(stages)
    cases = stages.get("product", {}).get("cases", {})
    if not {"tflops", "tb_per_s"} <= ceilings.keys():
        return
    for name, work in cases.get("work", {}).get("graphs", {}).items():
        floor = floor_ms(work["gflop"], work["weights_mb"], ceilings)
        measured = cases.get("batch 1", {}).get("step_gpu_ms")
        if name != "step":
            measured = cases.get("graphs", {}).get("graphs_ms", {}).get(name, {}).get("p50")
        yield (
            name,
            f"{work['gflop']:.4g}",
            _number(work["weights_mb"], "{:.1f}"),
            f"{floor:.4g}",
            _number(measured, "{:.3f}"),
            _number(floor / measured if measured else None, "{:.1%}"),
        )


def _step_gflop(stages: Stages, name: str) -> float | None:
    """GFLOP of one guided step of one image: those of the stage's own model, or of the product's."""
    own = name.split(",", 1)[0]
    for stage in (own, "product"):
        work = stages.get(stage, {}).get("cases", {}).get("work", {}).get("graphs", {}).get("step")
        if work:
            return float(work["gflop"])
    return None


def _step_floor(stages: Stages) -> float | None:
    ceilings, gflop = read_ceilings(stages), _step_gflop(stages, "product")
    return floor_ms(gflop, None, ceilings) if gflop and {"tflops", "tb_per_s"} <= ceilings.keys() else None


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    cells = [[cell.replace("|", "/") for cell in row] for row in rows]
    if not cells:
        return ""
    lines = [header, ["---"] * len(header), *cells]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _number(value: float | None, spec: str) -> str:
    return "" if value is None else spec.format(value)
