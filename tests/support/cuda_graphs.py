"""Small graphs for the rewrites for ONNX Runtime's CUDA provider: from text, with stored weights, run on the CPU."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
from alterbute.bundle import WEIGHTS_FILE
from alterbute_export.cuda.cuda_graph import expand_all
from alterbute_export.half.variants import HalfVariant
from alterbute_export.onnx_io.ir import write_model

HEADER: Final = '<ir_version: 10, opset_import: ["" : 20, "com.microsoft" : 1]>'


def parse_graph(text: str) -> ir.Model:
    """A graph from its text; inputs whose name begins with `w` are stored weights, the same numbers for the same name and shape."""
    model: ir.Model = ir.from_proto(onnx.parser.parse_model(HEADER + text))
    for value in [value for value in model.graph.inputs if str(value.name).startswith("w")]:
        assert value.shape is not None
        model.graph.inputs.remove(value)
        shape = value.shape.numpy()
        seed = sum(str(value.name).encode()) + sum(shape)
        value.const_value = ir.tensor(np.random.default_rng(seed).standard_normal(shape, np.float32), name=value.name)
        model.graph.register_initializer(value)
    return model


def expand_cuda_files(folder: Path, written: Iterable[HalfVariant]) -> None:
    """Replace the operators of files made for CUDA by their definitions, so that ONNX Runtime's CPU provider runs them.

    Args:
        folder: The bundle's folder; its manifest is to be written afterwards.
        written: What `write_variants` returned.
    """
    for variant in written:
        for file in (variant.cuda.file, variant.cuda.prologue) if variant.cuda is not None else ():
            if file is not None:
                model = ir.load(folder / file)
                expand_all(model)
                write_model(model, folder / file, has_value_info=False)


def run_expanded(model: ir.Model, inputs: Mapping[str, Any], folder: Path | None = None) -> dict[str, Any]:
    """Outputs of a graph whose CUDA operators are replaced by their definitions, which leaves no other domain's operator.

    Args:
        model: The graph; it is not changed.
        inputs: Its inputs by name; others are ignored.
        folder: The folder of its external weights, if it has any.
    """
    expanded = ir.from_proto(ir.to_proto(model))
    expand_all(expanded)
    assert not any(node.domain for node in expanded.graph)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    if folder is not None:
        weights = (folder / WEIGHTS_FILE).read_bytes()
        options.add_external_initializers_from_files_in_memory([WEIGHTS_FILE], [weights], [len(weights)])
    session = onnxruntime.InferenceSession(ir.to_proto(expanded).SerializeToString(), options)
    names = [edge.name for edge in session.get_outputs()]
    return dict(
        zip(names, session.run(names, {edge.name: inputs[edge.name] for edge in session.get_inputs()}), strict=True)
    )


def measure_error(found: Mapping[str, Any], expected: Mapping[str, Any]) -> float:
    """The largest difference of any output, as a share of that output's largest value."""
    assert found.keys() == expected.keys()
    return max(
        float(np.abs(found[name].astype(np.float64) - value).max() / np.abs(value).max())
        for name, value in expected.items()
    )
