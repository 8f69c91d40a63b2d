"""Error of half precision after whole edits of 20 steps, computed with fp32 accumulation.

    python -m benchmarks.half_precision --bundle engines/demo
    python -m benchmarks.half_precision --bundle sd15-bundle --resolution 128 --seeds 1

The half-precision graphs are computed as fp32 graphs whose weights and values are rounded (`alterbute_export.half.simulate`): the
result of a GPU that accumulates in fp32. The same edit (photo, mask, prompt, seed) runs once in fp32 and once rounded, and the
inputs of the decode graph are compared. With `--graphs step` the encoders and the decoder stay fp32.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from alterbute.bundle import Bundle, Precision, open_bundle
from alterbute_export.checks.recorded_edit import GraphCall, record_edit
from alterbute_export.half.convert import convert_graph
from alterbute_export.half.overflow import find_overflow
from alterbute_export.half.simulate import round_values
from alterbute_export.half.variants import MODEL_GRAPHS
from alterbute_export.onnx_io.sessions import StreamingBackend

from benchmarks.common.machine import machine_facts
from benchmarks.published import PACKAGES

RESULTS = Path(__file__).parent / "results" / "half_precision.json"
LIMIT = 2e-3
"""Largest allowed error, relative to the largest fp32 latent."""


def round_graphs(
    bundle: Bundle, precision: Precision, graphs: list[str], calls: dict[str, list[GraphCall]]
) -> dict[str, bytes]:
    """Serialized fp32 graphs by name that round weights and values to half precision.

    As in an export, operators whose fp16 values would overflow in the recorded edit stay fp32.

    Args:
        bundle: An fp32 bundle.
        precision: `fp16` or `bf16`.
        graphs: Names of the graphs to round.
        calls: Recorded calls of a real edit by graph, to find values that overflow.
    """
    rounded = {}
    for name in graphs:
        path = bundle.path / f"{name}.onnx"
        fp32_values = find_overflow(path, calls.get(name, [])) if precision == "fp16" else {}
        report = convert_graph(ir.load(path), precision, fp32_values=fp32_values.keys())
        model = onnx.load(path, load_external_data=False)
        round_values(model, report.rounded, precision)
        rounded[name] = model.SerializeToString()
    return rounded


def decoder_input(calls: dict[str, list[GraphCall]]) -> Any:
    """Latent [1,C,h,w] of the edit: of the first call of the decode graph, as a second one decodes the photo's own latent."""
    return calls["decode"][0].inputs["latent"]


def compare(bundle: Bundle, rounded: dict[str, bytes], steps: int, seeds: int) -> dict[str, Any]:
    """Largest and rms error of the latents for every seed, relative to the largest and rms fp32 value.

    Args:
        bundle: The fp32 bundle.
        rounded: Serialized rounded graphs by name, from `round_graphs`.
        steps: Denoising steps.
        seeds: Number of seeds.
    """
    largest, rms, nans = [], [], 0
    for seed in range(seeds):
        expected = decoder_input(record_edit(bundle, steps=steps, seed=seed)).astype(np.float64)
        backend = StreamingBackend(bundle, lambda graph, model: rounded.get(graph, model))
        latent = decoder_input(record_edit(bundle, backend, steps=steps, seed=seed)).astype(np.float64)
        nans += int((~np.isfinite(latent)).sum())
        largest.append(float(np.abs(latent - expected).max() / np.abs(expected).max()))
        rms.append(float(np.sqrt(((latent - expected) ** 2).mean() / (expected**2).mean())))
    return {
        "largest": [float(f"{value:.2e}") for value in largest],
        "root_mean_square": [float(f"{value:.2e}") for value in rms],
        "nans": nans,
        "is_within_limit": max(largest) <= LIMIT and not nans,
    }


def main() -> None:
    """Measure one bundle, and replace its entry of the result file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, required=True, help="an fp32 bundle")
    parser.add_argument("--precision", choices=("fp16", "bf16"), default="fp16")
    parser.add_argument("--resolution", type=int, help="side of the window in pixels; default: the bundle's")
    parser.add_argument("--steps", type=int, default=20, help="denoising steps of an edit")
    parser.add_argument("--seeds", type=int, default=4, help="number of edits, with seeds 0, 1, ...")
    parser.add_argument("--graphs", nargs="+", choices=MODEL_GRAPHS, default=list(MODEL_GRAPHS), help="graphs to round")
    parser.add_argument("--out", type=Path, default=RESULTS, help="result file (JSON)")
    options = parser.parse_args()
    bundle = open_bundle(options.bundle)
    if options.resolution:
        bundle = replace(bundle, manifest=replace(bundle.manifest, resolution=options.resolution))
    graphs = [name for name in options.graphs if name in bundle.manifest.graphs]
    rounded = round_graphs(bundle, options.precision, graphs, record_edit(bundle))
    figures = {
        "graphs": graphs,
        "resolution": bundle.manifest.resolution,
        "steps": options.steps,
        **compare(bundle, rounded, options.steps, options.seeds),
        "machine": machine_facts(*PACKAGES),
    }
    key = f"{bundle.manifest.name} {options.precision} {'+'.join(graphs)}"
    results = json.loads(options.out.read_text()) if options.out.is_file() else {}
    options.out.write_text(json.dumps({**results, key: figures}, indent=1) + "\n", encoding="utf-8")
    print(key, {name: value for name, value in figures.items() if name != "machine"})


if __name__ == "__main__":
    main()
