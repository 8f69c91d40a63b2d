"""Share of a step outside the UNet: time by node, from ONNX Runtime's profile of the step graph.

    python -m benchmarks.step_share --bundle engines/demo --out benchmarks/results/step_share.json

A node is the UNet's if its first convolution or the model output depends on nothing else: precisely, what the rows are
made of (gathering, scaling, joining with the scene) is outside, and so is all that happens to the rows' outputs
(guidance, residual, rescale, solver, re-injection). Nodes are those of the graph as ONNX Runtime runs it, after its fusions.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from alterbute.bundle import WEIGHTS_FILE, Manifest, open_bundle

from benchmarks.common.machine import machine_facts
from benchmarks.common.results_file import write_results

WARM_UP = 2
"""Launches that plan memory and warm caches."""
ROWS_PER_SLOT = 2
"""Text guidance, the demo's default."""


def open_step(folder: Path, workplace: Path) -> tuple[Any, onnx.GraphProto]:
    """A session with profiling, and the optimised graph that it runs."""
    bundle = open_bundle(folder)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.enable_profiling = True
    options.profile_file_prefix = str(workplace / "profile")
    options.optimized_model_filepath = str(workplace / "optimized.onnx")
    weights = bundle.read(WEIGHTS_FILE)
    options.add_external_initializers_from_files_in_memory([WEIGHTS_FILE], [weights], [len(weights)])
    session = onnxruntime.InferenceSession(bundle.read("step.onnx"), options, providers=["CPUExecutionProvider"])
    return session, onnx.load(workplace / "optimized.onnx").graph


def outside_nodes(graph: onnx.GraphProto) -> set[str]:
    """Names of the nodes that are not the UNet's."""
    makers = {name: node for node in graph.node for name in node.output}

    def ancestors(tensor: str) -> set[str]:
        found: set[str] = set()
        waiting = [tensor]
        while waiting:
            node = makers.get(waiting.pop())
            if node is not None and node.name not in found:
                found.add(node.name)
                waiting += node.input
        return found

    (guidance,) = (node for node in graph.node if "guidance" in node.input)
    rows = next(name for name in guidance.input if name != "guidance")
    first = next(node for node in graph.node if node.op_type in ("Conv", "FusedConv"))
    return {node.name for node in graph.node} - (ancestors(rows) - ancestors(first.input[0]))


def draw(manifest: Manifest, slots: int, side: int | None = None) -> dict[str, Any]:
    """Draw inputs of a launch with every slot in use.

    Args:
        manifest: The bundle's manifest.
        slots: Number of slots.
        side: Side of the latents in cells; None is the bundle's.
    """
    generator = np.random.default_rng(0)
    rows, side = slots * ROWS_PER_SLOT, side or manifest.resolution // manifest.latent_factor
    sizes = {"B": slots, "N": rows, "T": manifest.text.tokens, "h": side, "w": side}
    inputs: dict[str, Any] = {}
    for edge in manifest.graphs["step"].inputs:
        shape = [sizes[size] if isinstance(size, str) else size for size in edge.shape]
        inputs[edge.name] = generator.standard_normal(shape).astype(edge.dtype)
    inputs["timestep"] = np.full(slots, 500, np.float32)
    inputs["owner"] = np.repeat(np.arange(slots), ROWS_PER_SLOT)
    inputs["rescale_row"] = np.arange(slots) * ROWS_PER_SLOT + ROWS_PER_SLOT - 1
    inputs["guidance"] = np.kron(np.eye(slots), [[-0.5, 1.5]]).astype(np.float32)
    return inputs


def measure(folder: Path, slots: int, steps: int) -> dict[str, Any]:
    """Measure the share of a step's time outside the UNet, and the costliest kinds of node there.

    Args:
        folder: The bundle's folder.
        slots: Number of slots.
        steps: Launches that are counted.
    """
    with tempfile.TemporaryDirectory() as name:
        workplace = Path(name)
        session, graph = open_step(folder, workplace)
        inputs = draw(open_bundle(folder).manifest, slots)
        for _ in range(steps + WARM_UP):
            session.run(None, inputs)
        events = json.loads(Path(session.end_profiling()).read_text())
        outside = outside_nodes(graph)
    kernels = [event for event in events if event.get("cat") == "Node" and event["name"].endswith("_kernel_time")]
    # Median over the launches by node: a sum would include the time of other processes.
    spent: dict[str, list[int]] = defaultdict(list)
    kinds: dict[str, str] = {}
    for event in kernels:
        node = event["name"].removesuffix("_kernel_time")
        spent[node].append(event["dur"])
        kinds[node] = event["args"]["op_name"]
    if strange := spent.keys() - {node.name for node in graph.node}:
        raise SystemExit(f"the profile has a node {min(strange)!r} that the graph has not: session and graph differ")
    micros = {node: statistics.median(times[WARM_UP:]) for node, times in spent.items()}
    total, by_kind = sum(micros.values()), defaultdict[str, float](float)
    for node in outside & micros.keys():
        by_kind[kinds[node]] += micros[node]
    return {
        "slots": slots,
        "rows": slots * ROWS_PER_SLOT,
        "steps": steps,
        "nodes": len(graph.node),
        "nodes_outside": len(outside),
        "share_outside": round(sum(by_kind.values()) / total, 4),
        "step_ms": round(total / 1000, 3),
        "outside_by_kind": {
            kind: round(time / total, 4) for kind, time in sorted(by_kind.items(), key=lambda item: -item[1])[:5]
        },
    }


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, default=Path("engines/demo"))
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--out", type=Path, default=None)
    options = parser.parse_args()
    figures = {
        "bundle": open_bundle(options.bundle).manifest.name,
        "launches": [measure(options.bundle, slots, options.steps) for slots in (1, 4)],
        "machine": machine_facts("onnxruntime", "onnx", "numpy"),
    }
    write_results(options.out, figures)


if __name__ == "__main__":
    main()
