"""Share of a step's time outside the UNet, by node, from ONNX Runtime's profile of the step graph.

    python -m benchmarks.step_share --bundle engines/demo --out benchmarks/results/step_share.json

The UNet's nodes lie between the inputs of its first convolution and its output. Outside are the nodes that make its rows (gather,
scale, concatenate with the scene) and those that process its output (guidance, residual, rescale, solver, reinjection). The nodes
are those of the graph that ONNX Runtime runs after its fusions.
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
"""Number of launches before the counted ones."""
ROWS_PER_SLOT = 2
"""UNet rows of one image with text guidance, the demo's default."""


def open_step(folder: Path, profile_folder: Path) -> tuple[Any, onnx.GraphProto]:
    """Profiled session of a bundle's step graph, and the optimised graph that it runs.

    Both the profile and the optimised graph are written to `profile_folder`.
    """
    bundle = open_bundle(folder)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.enable_profiling = True
    options.profile_file_prefix = str(profile_folder / "profile")
    options.optimized_model_filepath = str(profile_folder / "optimized.onnx")
    weights = bundle.read(WEIGHTS_FILE)
    options.add_external_initializers_from_files_in_memory([WEIGHTS_FILE], [weights], [len(weights)])
    session = onnxruntime.InferenceSession(bundle.read("step.onnx"), options, providers=["CPUExecutionProvider"])
    return session, onnx.load(profile_folder / "optimized.onnx").graph


def find_outside_nodes(graph: onnx.GraphProto) -> set[str]:
    """Names of the nodes outside the UNet; see the module's docstring for its bounds."""
    producers = {name: node for node in graph.node for name in node.output}

    def ancestors(tensor: str) -> set[str]:
        names: set[str] = set()
        tensors = [tensor]
        while tensors:
            node = producers.get(tensors.pop())
            if node is not None and node.name not in names:
                names.add(node.name)
                tensors += node.input
        return names

    (guidance,) = (node for node in graph.node if "guidance" in node.input)
    rows = next(name for name in guidance.input if name != "guidance")
    first_convolution = next(node for node in graph.node if node.op_type in ("Conv", "FusedConv"))
    return {node.name for node in graph.node} - (ancestors(rows) - ancestors(first_convolution.input[0]))


def draw_inputs(manifest: Manifest, slots: int, side: int | None = None) -> dict[str, Any]:
    """Random inputs by name of a launch of the step graph in which all slots are used.

    Args:
        manifest: The bundle's manifest.
        slots: Number of slots.
        side: Height and width of the latents in cells; None takes the bundle's.
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
    """Share of a step's time outside the UNet, and the five operator types that take the most of it.

    Args:
        folder: The bundle's folder.
        slots: Number of slots.
        steps: Number of counted launches.
    """
    with tempfile.TemporaryDirectory() as name:
        profile_folder = Path(name)
        session, graph = open_step(folder, profile_folder)
        inputs = draw_inputs(open_bundle(folder).manifest, slots)
        for _ in range(steps + WARM_UP):
            session.run(None, inputs)
        events = json.loads(Path(session.end_profiling()).read_text())
        outside = find_outside_nodes(graph)
    kernels = [event for event in events if event.get("cat") == "Node" and event["name"].endswith("_kernel_time")]
    # Median over the launches by node, since a sum would include the time of other processes.
    times_us: dict[str, list[int]] = defaultdict(list)
    op_types: dict[str, str] = {}
    for event in kernels:
        node = event["name"].removesuffix("_kernel_time")
        times_us[node].append(event["dur"])
        op_types[node] = event["args"]["op_name"]
    if unknown_nodes := times_us.keys() - {node.name for node in graph.node}:
        raise SystemExit(
            f"the profile lists a node {min(unknown_nodes)!r} that the optimised graph lacks; expected the graph of the session"
        )
    median_us = {node: statistics.median(times[WARM_UP:]) for node, times in times_us.items()}
    total, by_kind = sum(median_us.values()), defaultdict[str, float](float)
    for node in outside & median_us.keys():
        by_kind[op_types[node]] += median_us[node]
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
    """Measure, and write the result file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, default=Path("engines/demo"), help="bundle folder")
    parser.add_argument("--steps", type=int, default=40, help="counted launches")
    parser.add_argument("--out", type=Path, default=None, help="result file (JSON); default: print only")
    options = parser.parse_args()
    figures = {
        "bundle": open_bundle(options.bundle).manifest.name,
        "launches": [measure(options.bundle, slots, options.steps) for slots in (1, 4)],
        "machine": machine_facts("onnxruntime", "onnx", "numpy"),
    }
    write_results(options.out, figures)


if __name__ == "__main__":
    main()
