"""A step graph in two files: the prologue runs when a row's conditions change, and its outputs stay in device memory."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from alterbute.backends import Backend
from alterbute.backends.onnxruntime_cuda import OnnxRuntimeCudaBackend
from alterbute.backends.onnxruntime_cuda.gpu_session import NO_CAPTURE, BoundTensor, GpuSession
from alterbute.bundle import Bundle, LaunchShape, Variant, describe_files, open_bundle, write_manifest
from alterbute.editor import Editor
from alterbute.errors import BundleError, DeviceError, EngineError
from onnx import TensorProto, helper

from tests.backends.conftest import draw_photo_and_mask
from tests.backends.fake_cuda import FakeCuda
from tests.support.backends import SharedBackend

_PROMPTS = ["color: red", "color: blue"]


def _split(folder: Path, *, half_scale: list[int | str], extra_input: str = "") -> Bundle:
    """Add a step graph that reads `text_key` and `half_scale` instead of `text` and `identity_scale`, and their prologue.

    The identity's scale is 1, which fp16 holds exactly, so that the pair computes the bytes of the whole graph.
    """
    bundle = open_bundle(folder)
    graph = bundle.manifest.graphs["step"]
    whole = next(variant for variant in graph.variants if variant.backend == "onnxruntime")
    model = onnx.load(folder / whole.file, load_external_data=False)
    step = model.graph
    edges = {edge.name: edge for edge in step.input}
    text, scale = edges["text"], edges["identity_scale"]
    width = text.type.tensor_type.shape.dim[2].dim_value
    key = helper.make_tensor_value_info("text_key", TensorProto.FLOAT, ["N", "T", width])
    half = helper.make_tensor_value_info("half_scale", TensorProto.FLOAT16, half_scale)
    prologue = helper.make_graph(
        [
            helper.make_node("Identity", ["text"], ["text_key"]),
            helper.make_node("Cast", ["identity_scale"], ["half_scale"], to=TensorProto.FLOAT16),
        ],
        "prologue",
        [text, scale],
        [key, half],
    )
    for node in step.node:
        node.input[:] = [{"text": "text_key", "identity_scale": "whole_scale"}.get(name, name) for name in node.input]
    step.node.insert(0, helper.make_node("Cast", ["half_scale"], ["whole_scale"], to=TensorProto.FLOAT))
    for edge in (text, scale):
        step.input.remove(edge)
    step.input.extend([key, helper.make_tensor_value_info("half_scale", TensorProto.FLOAT16, ["N"])])
    if extra_input:
        step.input.append(helper.make_tensor_value_info(extra_input, TensorProto.FLOAT, ["N"]))
    onnx.save(model, folder / "step.cuda.onnx")
    opset = helper.make_opsetid("", 17)
    onnx.save(helper.make_model(prologue, opset_imports=[opset], ir_version=8), folder / "step.prologue.onnx")
    variant = Variant(
        backend="onnxruntime-cuda",
        file="step.cuda.onnx",
        prologue="step.prologue.onnx",
        buckets=(LaunchShape(slots=1, rows=2), LaunchShape(slots=2, rows=4)),
    )
    graphs = {**bundle.manifest.graphs, "step": replace(graph, variants=(*graph.variants, variant))}
    write_manifest(folder, replace(bundle.manifest, graphs=graphs, files=describe_files(folder)))
    return open_bundle(folder)


def _open(bundle: Bundle, reference: Backend) -> tuple[OnnxRuntimeCudaBackend, FakeCuda]:
    cuda: Any = FakeCuda()
    return OnnxRuntimeCudaBackend(
        bundle,
        ort=onnxruntime,
        cuda_api=cuda,
        host=SharedBackend(reference),
        provider="CPUExecutionProvider",
        kind="cpu",
    ), cuda


@pytest.fixture(scope="module")
def split_bundle(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    folder = tmp_path_factory.mktemp("split") / "bundle"
    shutil.copytree(tiny_bundle, folder)
    return _split(folder, half_scale=["N"])


def test_a_step_in_two_graphs_gives_the_bytes_of_the_whole_one(split_bundle: Bundle, reference: Backend) -> None:
    photo, mask = draw_photo_and_mask()
    backend, cuda = _open(split_bundle, reference)
    with Editor(split_bundle, backend=backend) as editor:
        editor.warm_up()
        # Guidance in the first half only: the layout of the rows changes during the edit.
        split = editor.prepare(photo, mask).edit_many(_PROMPTS, seed=3, steps=5, guidance_interval=(0.0, 0.5))
    with Editor(split_bundle, backend=SharedBackend(reference)) as editor:
        whole = editor.prepare(photo, mask).edit_many(_PROMPTS, seed=3, steps=5, guidance_interval=(0.0, 0.5))
    for one, other in zip(split, whole, strict=True):
        assert np.array_equal(np.asarray(one.image), np.asarray(other.image))
    assert not cuda.memory
    assert not cuda.pinned


def test_the_prologue_runs_once_per_layout_before_the_step_and_is_not_captured(
    split_bundle: Bundle, reference: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    photo, mask = draw_photo_and_mask()
    seen: list[str] = []
    run_bound = GpuSession.run_bound

    def spy(session: GpuSession, binding: Any, annotation: int = NO_CAPTURE) -> None:
        seen.append("step" if session._graph == "step" else "prologue")
        assert (annotation == NO_CAPTURE) is (session._graph != "step")
        run_bound(session, binding, annotation)

    backend, _ = _open(split_bundle, reference)
    with Editor(split_bundle, backend=backend) as editor:
        subject = editor.prepare(photo, mask)
        monkeypatch.setattr(GpuSession, "run_bound", spy)
        subject.edit("color: red", seed=3, steps=4)
        assert seen == ["prologue", *["step"] * 4]
        seen.clear()
        subject.edit("color: red", seed=3, steps=4, guidance_interval=(0.0, 0.5))
        assert seen == ["prologue", "step", "step", "prologue", "step", "step"]


def test_inputs_that_only_the_prologue_reads_are_not_bound_to_the_step(
    split_bundle: Bundle, reference: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    bound: dict[str, set[str]] = {}
    half: list[BoundTensor] = []
    bind = GpuSession.bind

    def spy(session: GpuSession, tensors: Any) -> Any:
        bound[session._graph] = set(session.inputs)
        half.append(tensors["half_scale"])
        return bind(session, tensors)

    monkeypatch.setattr(GpuSession, "bind", spy)
    backend, _ = _open(split_bundle, reference)
    with Editor(split_bundle, backend=backend, slots=4) as editor:
        editor.lane.warm_up()
    assert bound.pop("step") & {"text", "text_key", "identity_scale", "half_scale"} == {"text_key", "half_scale"}
    assert list(bound.values()) == [{"text", "identity_scale"}]
    # One buffer for all launch shapes, in half precision.
    assert len({tensor.address for tensor in half}) == 1
    assert {tensor.dtype for tensor in half} == {np.float16}
    assert {tensor.shape for tensor in half} == {(2,), (4,), (12,)}


def test_a_prologue_that_fails_runs_again_before_the_next_step(
    split_bundle: Bundle, reference: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    photo, mask = draw_photo_and_mask()
    backend, _ = _open(split_bundle, reference)
    run_bound = GpuSession.run_bound

    def fail(session: GpuSession, binding: Any, annotation: int = NO_CAPTURE) -> None:
        if session._graph != "step":
            raise DeviceError("the prologue failed", "success", "try again")
        run_bound(session, binding, annotation)

    with Editor(split_bundle, backend=backend) as editor:
        subject = editor.prepare(photo, mask)
        first = subject.edit("color: red", seed=3, steps=4)
        with monkeypatch.context() as patch, pytest.raises(DeviceError, match="the prologue failed"):
            patch.setattr(GpuSession, "run_bound", fail)
            subject.edit("color: blue", seed=3, steps=4)
        again = subject.edit("color: red", seed=3, steps=4)
    assert np.array_equal(np.asarray(first.image), np.asarray(again.image))


def test_a_whole_step_from_host_memory_runs_the_prologue_too(split_bundle: Bundle, reference: Backend) -> None:
    rng = np.random.default_rng(0)
    sizes = {"B": 2, "N": 2, "T": split_bundle.manifest.text.tokens, "h": 8, "w": 8}
    inputs = {
        edge.name: np.zeros(shape, edge.dtype)
        if edge.dtype == "int64"
        else rng.standard_normal(shape).astype(np.float32)
        for edge in split_bundle.manifest.graphs["step"].inputs
        for shape in [tuple(sizes[axis] if isinstance(axis, str) else axis for axis in edge.shape)]
    }
    inputs["identity_scale"][:] = 1
    backend, _ = _open(split_bundle, reference)
    split, whole = backend.run("step", inputs)["next_state"], reference.run("step", inputs)["next_state"]
    backend.close()
    assert np.array_equal(split, whole)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"half_scale": ["M"]}, r"'half_scale' of shape \['M'\].*the rows N"),
        ({"half_scale": ["N"], "extra_input": "ghost"}, "inputs that the manifest does not list: ghost"),
    ],
)
def test_a_pair_that_does_not_fit_is_refused(
    tiny_bundle: Path, tmp_path: Path, reference: Backend, options: dict[str, Any], message: str
) -> None:
    folder = tmp_path / "bundle"
    shutil.copytree(tiny_bundle, folder)
    bundle = _split(folder, **options)
    with pytest.raises((EngineError, BundleError), match=message):
        Editor(bundle, backend=_open(bundle, reference)[0])
