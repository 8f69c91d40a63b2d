"""Where ONNX Runtime puts the nodes of a bundle's graphs, told by itself, with the product's backend."""

from __future__ import annotations

import hashlib
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

from alterbute.backends import choose_backend
from alterbute.bundle import open_bundle

_CUDA = "CUDAExecutionProvider"
_SMALL_RANK = 1


def place_nodes(folder: str) -> dict[str, dict[str, Any]]:
    """Open the backend, and tell of every graph file that is on the GPU where its nodes are.

    Returns:
        By file: `gpu`, number of nodes on the GPU; `shapes`, number of nodes of shape arithmetic on the CPU (their outputs are int64
        of rank 1 or 0); `cpu`, names of all other nodes on the CPU; `copies`, number of Memcpy nodes.
    """
    import onnxruntime

    bundle = open_bundle(Path(folder))
    files = {
        hashlib.sha256((bundle.path / name).read_bytes()).hexdigest(): name
        for name in bundle.manifest.files
        if name.endswith(".onnx")
    }
    found: dict[str, dict[str, Any]] = {}
    create = onnxruntime.InferenceSession

    def record(model: bytes, options: Any, **arguments: Any) -> Any:
        # `providers` holds a name, or a name and its options.
        provider = arguments["providers"][0]
        if _CUDA not in (provider, provider[0]):
            return create(model, options, **arguments)
        with tempfile.TemporaryDirectory() as place:
            options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
            options.optimized_model_filepath = f"{place}/optimized.onnx"
            session = create(model, options, **arguments)
            found[files[hashlib.sha256(model).hexdigest()]] = _describe(session, model, Path(place) / "optimized.onnx")
        return session

    onnxruntime.InferenceSession = record
    choose_backend("onnxruntime-cuda", bundle).backend.close()
    return found


def _describe(session: Any, model: bytes, optimized: Path) -> dict[str, Any]:
    import onnx

    final = onnx.load(optimized, load_external_data=False)
    # Some nodes are made by ONNX Runtime's optimizer, and others are folded by it after they were placed.
    shapes = _shape_nodes(onnx.load_from_string(model)) | _shape_nodes(final)
    groups: Counter[str] = Counter()
    others = []
    for part in session.get_provider_graph_assignment_info():
        for node in part.get_nodes():
            if part.ep_name == _CUDA:
                groups["gpu"] += 1
            elif node.name in shapes:
                groups["shapes"] += 1
            else:
                others.append(f"{node.op_type} {node.name}")
    copies = [node.op_type for node in final.graph.node if node.op_type.startswith("Memcpy")]
    return {"gpu": groups["gpu"], "shapes": groups["shapes"], "cpu": others, "copies": len(copies)}


def _shape_nodes(model: Any) -> set[str]:
    """Names of nodes whose outputs are all int64 of rank 1 or 0."""
    import onnx

    inferred = onnx.shape_inference.infer_shapes(model)
    small = {
        value.name
        for value in (*inferred.graph.value_info, *inferred.graph.output)
        if value.type.tensor_type.elem_type == onnx.TensorProto.INT64
        and len(value.type.tensor_type.shape.dim) <= _SMALL_RANK
    }
    return {node.name for node in inferred.graph.node if all(name in small for name in node.output if name)}
