"""Roofline: the work of each graph, and the least time that this card's measured ceilings allow for it."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from alterbute.bundle import Variant

from benchmarks.gpu.cases import open_measured

_PREFERRED: Final = ("fp16", "bf16", "int8", "fp32")


def graph_work(folder: str, backend: str) -> dict[str, dict[str, Any]]:
    """Work of every large graph of a bundle in one guided edit, a step of two rows for `step`.

    Args:
        folder: The bundle's folder.
        backend: The backend whose variants are counted; where a graph has none for it, ONNX Runtime's.

    Returns:
        By graph: its file, GFLOP (2 x multiply-adds, from the manifest's audit), and MB of weights that it reads; None for what
        is not recorded, or for weights where the package onnx is not installed.
    """
    work = {}
    for name, graph in open_measured(folder).manifest.graphs.items():
        ours = [variant for variant in graph.variants if variant.backend == backend]
        variant = min(ours or graph.variants, key=_preference)
        audits = [found.audit for found in (variant, *graph.variants) if found.audit is not None]
        if audits:
            megabytes = _weight_megabytes(Path(folder) / variant.file)
            work[name] = {
                "file": variant.file,
                "gflop": round(2 * audits[0].multiply_adds / 1e9, 4),
                "weights_mb": megabytes,
            }
    return work


def floor_ms(gflop: float, weights_mb: float | None, ceilings: Mapping[str, float]) -> float:
    """Least milliseconds of a graph: the greater of its arithmetic and of reading its weights once, at the measured ceilings.

    Args:
        gflop: Its work in GFLOP.
        weights_mb: Its weights in MB; None leaves them out.
        ceilings: `tflops` and `tb_per_s`, as `read_ceilings` returns them.
    """
    return max(gflop / ceilings["tflops"], (weights_mb or 0.0) / 1000 / ceilings["tb_per_s"])


def read_ceilings(stages: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    """The best measured `tflops`, `convolution_tflops` and `tb_per_s` of the stage `machine`; without those that were not measured."""
    cases = stages.get("machine", {}).get("cases", {}).values()
    found: dict[str, float] = {}
    for case in cases:
        for name in ("tflops", "convolution_tflops", "tb_per_s"):
            if name in case:
                found[name] = max(found.get(name, 0.0), case[name])
    return found


def _preference(variant: Variant) -> tuple[bool, int]:
    return variant.prologue is None, _PREFERRED.index(variant.precision)


def _weight_megabytes(path: Path) -> float | None:
    try:
        onnx = importlib.import_module("onnx")
    except ImportError:
        return None
    total = 0
    for tensor in onnx.load(str(path), load_external_data=False).graph.initializer:
        where = {entry.key: entry.value for entry in tensor.external_data}
        total += int(where["length"]) if "length" in where else tensor.ByteSize()
    return round(total / 1e6, 3)
