"""Properties of the exported bundle: manifest, parity, graph files, weights and reproducible bytes."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from alterbute.bundle import GRAPHS, WEIGHTS_FILE, Manifest, verify_bundle
from alterbute_export.checks.parity import LIMIT, check_parity
from alterbute_export.errors import ParityError
from alterbute_export.graphs.spec import GraphSpec, edge
from alterbute_export.onnx_io.weights import WeightStore
from alterbute_export.onnx_io.write_onnx import write_graph

from tests.support.checkpoints import VOCABULARY

STEP_INPUTS = (
    *("state", "noise", "timestep", "solver", "reinject", "background", "background_noise", "keep", "scene", "owner"),
    *("guidance", "source_on", "text", "identity", "identity_scale", "guidance_rescale", "rescale_row"),
)


def test_runtime_accepts_the_bundle(bundle: Path) -> None:
    manifest = verify_bundle(bundle).manifest
    assert set(manifest.graphs) == set(GRAPHS)
    assert (manifest.latent_channels, manifest.latent_factor, manifest.scene_channels) == (4, 4, 9)
    assert {name: list(values) for name, values in (manifest.attributes or {}).items()} == VOCABULARY


def test_every_graph_is_within_the_limit_of_torch(manifest: Manifest) -> None:
    errors = {name: graph.parity.relative_error for name, graph in manifest.graphs.items() if graph.parity}
    assert set(errors) == set(GRAPHS)
    assert errors.pop("paste") <= 10 * LIMIT, "the paste graph solves equations in fp32"
    assert errors.pop("paste16") <= 40 * LIMIT, "of which 16 bits show all"
    assert max(errors.values()) <= LIMIT


def test_graph_files_have_the_edges_of_the_manifest(bundle: Path, manifest: Manifest) -> None:
    for name, graph in manifest.graphs.items():
        proto = onnx.load(bundle / f"{name}.onnx", load_external_data=False).graph
        for values, edges in ((proto.input, graph.inputs), (proto.output, graph.outputs)):
            assert [value.name for value in values] == [tensor.name for tensor in edges]
            for value, tensor in zip(values, edges, strict=True):
                dims = [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]
                assert dims == list(tensor.shape)
                dtype = onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
                assert dtype == np.dtype(tensor.dtype)
    assert [tensor.name for tensor in manifest.graphs["step"].inputs] == list(STEP_INPUTS)


def test_files_have_no_trace_of_the_machine_that_wrote_them(bundle: Path) -> None:
    for path in bundle.glob("*.onnx"):
        model = onnx.load(path, load_external_data=False)
        assert not model.metadata_props and not model.graph.value_info
        assert not any(node.metadata_props or node.doc_string for node in model.graph.node)
        assert b".py" not in path.read_bytes()
    assert str(Path.home()) not in (bundle / "manifest.json").read_text()


def linear_spec(weight: torch.Tensor) -> GraphSpec:
    """The spec of a graph that is one Linear with `weight [out,in]` and no bias."""
    layer = torch.nn.Linear(weight.shape[1], weight.shape[0], bias=False)
    layer.weight = torch.nn.Parameter(weight, requires_grad=False)
    width = weight.shape[1]
    return GraphSpec(
        name="linear",
        graph=layer,
        reference=layer,
        inputs=(edge("x", "float32", "B", width),),
        outputs=(edge("y", "float32", "B", weight.shape[0]),),
        trace_sizes={"B": 2},
        check_sizes=({"B": 1}, {"B": 3}),
    )


def stored_dtypes(folder: Path) -> set[int]:
    """ONNX data types of the initializers of `linear.onnx`."""
    return {
        tensor.data_type for tensor in onnx.load(folder / "linear.onnx", load_external_data=False).graph.initializer
    }


def test_weights_that_were_fp16_are_stored_once_and_as_fp16(tmp_path: Path) -> None:
    store = WeightStore(tmp_path, half=True)
    spec = linear_spec(torch.randn(48, 32).half().float())
    path = write_graph(spec, store)
    assert check_parity(spec, path).relative_error <= LIMIT
    write_graph(spec, store)
    assert store.path.stat().st_size == 48 * 32 * 2
    assert stored_dtypes(tmp_path) == {onnx.TensorProto.FLOAT16}


def test_weights_that_fp16_would_change_stay_fp32(tmp_path: Path) -> None:
    store = WeightStore(tmp_path, half=True)
    write_graph(linear_spec(torch.full((48, 32), 0.1)), store)
    assert store.path.stat().st_size == 48 * 32 * 4
    assert stored_dtypes(tmp_path) == {onnx.TensorProto.FLOAT}


def test_a_graph_that_computes_something_else_is_refused(tmp_path: Path) -> None:
    spec = linear_spec(torch.randn(48, 32))
    path = write_graph(spec, WeightStore(tmp_path, half=False))
    scaled = replace(spec, reference=lambda x: spec.reference(x) * (1 + 1e-4))
    with pytest.raises(ParityError, match="graph linear, output y"):
        check_parity(scaled, path)


def test_bundle_is_smaller_than_its_checkpoint(checkpoint: Path, bundle: Path) -> None:
    on_disk = sum(path.stat().st_size for path in checkpoint.rglob("*.safetensors"))
    assert (bundle / WEIGHTS_FILE).stat().st_size < on_disk


def test_another_process_writes_the_same_bytes(checkpoint: Path, bundle: Path, tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path\n"
        "from alterbute_export.export_bundle import load_prompt_spec\n"
        "from alterbute_export.checkpoint.reader import read_checkpoint\n"
        "from alterbute_export.onnx_io.write_onnx import write_graph\n"
        "from alterbute_export.checkpoint.tokenizer import read_tokenizer\n"
        "from alterbute_export.onnx_io.weights import WeightStore\n"
        "checkpoint = read_checkpoint(sys.argv[1])\n"
        "spec = load_prompt_spec(checkpoint, read_tokenizer(checkpoint.path))\n"
        "write_graph(spec, WeightStore(Path(sys.argv[2]), half=True))\n"
    )
    environment = {**os.environ, "PYTHONHASHSEED": "7", "PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, "-c", code, checkpoint, tmp_path], check=True, env=environment, capture_output=True)
    assert (tmp_path / "prompt.onnx").read_bytes() == (bundle / "prompt.onnx").read_bytes()
    weights = (tmp_path / WEIGHTS_FILE).read_bytes()
    # The prompt graph is written first, so its weights begin the file.
    assert (bundle / WEIGHTS_FILE).read_bytes().startswith(weights)


@pytest.mark.slow
def test_whole_bundle_is_the_same_bytes_again(checkpoint: Path, bundle: Path, tmp_path: Path) -> None:
    from alterbute_export.export_bundle import export_bundle

    again = tmp_path / "again"
    export_bundle(checkpoint, again)
    names = sorted(path.relative_to(bundle).as_posix() for path in bundle.rglob("*") if path.is_file())
    assert names == sorted(path.relative_to(again).as_posix() for path in again.rglob("*") if path.is_file())
    assert [name for name in names if (bundle / name).read_bytes() != (again / name).read_bytes()] == []
