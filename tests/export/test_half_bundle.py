"""Half-precision bundles: half-precision graphs, weights stored once, a list of the operators that stay fp32, and refusals."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from alterbute.backends import choose_backend
from alterbute.bundle import (
    MANIFEST_FILE,
    WEIGHTS_FILE,
    Manifest,
    Precision,
    TypeAudit,
    describe_files,
    open_bundle,
    parse_manifest,
    read_manifest,
    verify_bundle,
    write_manifest,
)
from alterbute.cli.inspect import describe
from alterbute.errors import BundleError
from alterbute_export.checks.recorded_edit import record_edit
from alterbute_export.checks.type_audit import audit_graph, check_types
from alterbute_export.engine.build import build_engines
from alterbute_export.engine.recipe import read_recipe
from alterbute_export.errors import CheckpointError, PrecisionError
from alterbute_export.half.convert_bundle import convert_bundle
from alterbute_export.half.variants import MODEL_GRAPHS
from alterbute_export.onnx_io.sessions import open_session

from tests.conftest import cache_folder
from tests.engines.conftest import RECIPES, need_rtx
from tests.support.cached_build import build_once

HalfBundle = Callable[[Precision], Path]


@pytest.fixture(scope="session")
def half_bundle(request: pytest.FixtureRequest, bundle: Path) -> HalfBundle:
    """Makes the tiny bundle in a half precision, as `export_bundle` converts it."""

    def make(precision: Precision) -> Path:
        def write(folder: Path) -> None:
            shutil.copytree(bundle, folder)
            convert_bundle(folder, precision)

        return build_once(cache_folder(request, "half") / precision, MANIFEST_FILE, write)

    return make


def _audit(manifest: Manifest, graph: str) -> TypeAudit:
    """The audit of the file `<graph>.onnx`."""
    (audit,) = {
        variant.file: variant.audit for variant in manifest.graphs[graph].variants if variant.file == f"{graph}.onnx"
    }.values()
    assert audit is not None
    return audit


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_a_half_bundle_stores_each_weight_once_and_in_half_precision(
    half_bundle: HalfBundle, bundle: Path, precision: Precision
) -> None:
    folder = half_bundle(precision)
    verify_bundle(folder)
    assert [path.name for path in folder.glob("*.bin")] == [WEIGHTS_FILE]
    # The tiny checkpoint is fp16 on disk, so the fp32 bundle has two bytes for each weight as well.
    assert (folder / WEIGHTS_FILE).stat().st_size <= 1.01 * (bundle / WEIGHTS_FILE).stat().st_size
    kinds = set()
    stored: set[tuple[int, int]] = set()
    for name in MODEL_GRAPHS:
        for value in ir.load(folder / f"{name}.onnx").graph.initializers.values():
            if isinstance(value.const_value, ir.ExternalTensor):
                stored.add((value.const_value.offset or 0, value.const_value.length or 0))
                kinds.add(value.const_value.dtype)
    read_bytes = sum(length for _, length in stored)
    assert read_bytes >= 0.98 * (folder / WEIGHTS_FILE).stat().st_size
    assert {"fp16": ir.DataType.FLOAT16, "bf16": ir.DataType.BFLOAT16}[precision] in kinds


def test_an_fp16_bundle_runs_on_the_cpu_close_to_fp32(half_bundle: HalfBundle, bundle: Path) -> None:
    calls = record_edit(open_bundle(bundle))
    backend = choose_backend("onnxruntime", open_bundle(half_bundle("fp16"))).backend
    for name in MODEL_GRAPHS:
        call = calls[name][0]
        for output, value in backend.run(name, call.inputs).items():
            expected = call.outputs[output].astype(np.float64)
            assert np.abs(value - expected).max() <= 1e-2 * max(np.abs(expected).max(), 1e-6), (name, output)
    backend.close()


def _weights(path: Path) -> set[tuple[int, int]]:
    """Offset and length in the weights file of every tensor that a graph reads."""
    values = ir.load(path).graph.initializers.values()
    tensors = [value.const_value for value in values if isinstance(value.const_value, ir.ExternalTensor)]
    return {(tensor.offset or 0, tensor.length or 0) for tensor in tensors}


def test_onnx_runtime_gets_fused_attention_in_fp16_and_tensorrt_the_decomposed_one(
    half_bundle: HalfBundle, bundle: Path
) -> None:
    folder = half_bundle("fp16")
    files = {variant.backend: variant.file for variant in open_bundle(folder).manifest.graphs["step"].variants}
    fused, plain = (
        dict.fromkeys(["onnxruntime", "onnxruntime-cuda"], "step.mha.onnx"),
        dict.fromkeys(["tensorrt", "tensorrt_rtx"], "step.onnx"),
    )
    assert files == {**fused, **plain}
    nodes = list(ir.load(folder / "step.mha.onnx").graph)
    attentions = [node for node in nodes if node.op_type == "MultiHeadAttention"]
    assert (
        len(attentions)
        == sum(node.op_type == "MultiHeadAttention" for node in ir.load(bundle / "step.mha.onnx").graph)
        > 0
    )
    # fp16, without a cast on either side: ONNX Runtime runs this as flash attention on a GPU.
    around = [value.producer() for node in attentions for value in node.inputs if value is not None]
    around += [reader for node in attentions for reader, _ in node.outputs[0].uses()]
    assert "Cast" not in {node.op_type for node in around if node is not None}
    assert _weights(folder / "step.mha.onnx") == _weights(folder / "step.onnx")


def test_fused_and_decomposed_fp16_graphs_give_the_same_numbers(half_bundle: HalfBundle, bundle: Path) -> None:
    folder, calls = half_bundle("fp16"), record_edit(open_bundle(bundle))["step"]
    plain, fused = (open_session((folder / name).read_bytes(), folder) for name in ("step.onnx", "step.mha.onnx"))
    for call in calls:
        for expected, output in zip(plain.run(None, call.inputs), fused.run(None, call.inputs), strict=True):
            # The CPU computes both in fp32; they differ by the attention scale, which is rounded to fp16 in the decomposed form alone.
            assert np.abs(output - expected).max() <= 5e-4 * np.abs(expected).max()
    errors = {
        variant.file: variant.relative_error or 1 for variant in open_bundle(folder).manifest.graphs["step"].variants
    }
    assert errors["step.mha.onnx"] <= 1.5 * errors["step.onnx"]


def test_a_bf16_bundle_has_no_fused_graph(half_bundle: HalfBundle) -> None:
    folder = half_bundle("bf16")
    assert not list(folder.glob("*.mha.onnx"))
    assert {variant.file for variant in open_bundle(folder).manifest.graphs["step"].variants} == {"step.onnx"}


def test_a_bf16_bundle_is_refused_on_the_cpu_with_a_fix(half_bundle: HalfBundle) -> None:
    with pytest.raises(BundleError, match=r"graph 'step' is bf16.*--precision"):
        choose_backend("onnxruntime", open_bundle(half_bundle("bf16")))


def test_a_recipe_of_the_bundles_precision_uses_the_bundles_graphs(half_bundle: HalfBundle, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(half_bundle("fp16"), tmp_path / "bundle"))
    files_before = set(open_bundle(folder).manifest.files)
    recipe = read_recipe(RECIPES / "cpu.toml")
    result = build_engines(folder, replace(recipe, precision="fp16"), report=lambda task, step, steps: None)
    assert set(result.manifest.files) == files_before
    variants = [variant for graph in result.manifest.graphs.values() for variant in graph.variants]
    files = {file for variant in variants for file in (variant.file, variant.prologue) if file is not None}
    assert files == {name for name in files_before if name.endswith(".onnx")}
    assert result.variants["step"].fused is not None
    assert all(file.audit.shares["fp16"] > 0.9 for file in result.variants["step"].files)


def test_a_plan_is_built_from_the_bundles_own_graph(half_bundle: HalfBundle, tmp_path: Path) -> None:
    need_rtx()
    folder = Path(shutil.copytree(half_bundle("fp16"), tmp_path / "bundle"))
    recipe = read_recipe(RECIPES / "rtx_fp16.toml")
    result = build_engines(folder, recipe, report=lambda task, step, steps: None, graphs=("decode",))
    (engine,) = result.manifest.engines
    assert engine.source == "decode.onnx" and set(engine.weights) == {WEIGHTS_FILE}
    work = result.plans["decode"].audit.work
    assert work["fp16"] >= 0.8 * sum(work.values())


def test_a_recipe_of_another_precision_is_refused(half_bundle: HalfBundle, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(half_bundle("fp16"), tmp_path / "bundle"))
    recipe = replace(read_recipe(RECIPES / "cpu.toml"), precision="bf16")
    with pytest.raises(PrecisionError, match=r"graphs are fp16, and bf16 was asked for.*--precision bf16"):
        build_engines(folder, recipe, report=lambda task, step, steps: None)


def test_the_type_audit_is_in_the_manifest_and_in_inspect(half_bundle: HalfBundle, bundle: Path) -> None:
    for folder, kind in ((bundle, "fp32"), (half_bundle("fp16"), "fp16")):
        manifest = open_bundle(folder).manifest
        for name in MODEL_GRAPHS:
            audit = _audit(manifest, name)
            assert audit.multiply_adds > 0
            assert audit.shares[kind] > 0.9
        assert any(line.startswith("types      step.onnx: ") and f"% {kind}" in line for line in describe(manifest))


def test_a_manifest_without_audits_is_read(bundle: Path, tmp_path: Path) -> None:
    manifest = open_bundle(bundle).manifest
    plain = {
        name: replace(graph, variants=tuple(replace(variant, audit=None) for variant in graph.variants))
        for name, graph in manifest.graphs.items()
    }
    write_manifest(tmp_path, replace(manifest, graphs=plain))
    text = (tmp_path / MANIFEST_FILE).read_text().replace(',\n     "audit": null', "")
    assert '"audit"' not in text
    assert parse_manifest(text.encode()).graphs["step"].variants[0].audit is None


def test_arithmetic_is_counted_at_the_sizes_that_are_given(tmp_path: Path) -> None:
    text = (
        '<ir_version: 10, opset_import: ["" : 20]> g (float[B,2,h,w] x) => (float[B,S,3] y) '
        f"<float[4,2,3,3] k = {{{','.join(['1'] * 72)}}}, float[4,3] m = {{{','.join(['1'] * 12)}}}, int64[3] flat = {{0,4,-1}}> "
        "{ c = Conv<pads=[1,1,1,1]>(x, k) n = Cast<to=10>(c) r = Reshape(n, flat) t = Transpose<perm=[0,2,1]>(r) "
        "p = Cast<to=10>(m) q = MatMul(t, p) y = Cast<to=1>(q) }"
    )
    path = tmp_path / "g.onnx"
    onnx.save(onnx.parser.parse_model(text), path)
    audit = audit_graph(path, {"B": 2, "h": 5, "w": 7})
    conv, product = 2 * 4 * 5 * 7 * 18, 2 * 35 * 3 * 4
    assert audit.multiply_adds == conv + product
    assert audit.shares == {"fp32": round(conv / (conv + product), 4), "fp16": round(product / (conv + product), 4)}


def test_a_half_graph_that_is_mostly_fp32_fails() -> None:
    audit = TypeAudit(
        multiply_adds=100, shares={"fp16": 0.3, "fp32": 0.7}, islands={"overflow": 40}, overflow={"x": 7e4}
    )
    with pytest.raises(
        PrecisionError, match=r"30% of the arithmetic of graph 'decode' is fp16 .*40 operators for overflow"
    ):
        check_types("decode", "fp16", audit)
    check_types("decode", "fp32", audit)


def test_operators_that_overflow_are_fp32_and_listed(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from alterbute_export.half import variants

    folder = Path(shutil.copytree(bundle, tmp_path / "bundle"))
    shutil.copyfile(folder / "step.onnx", folder / "step.other.onnx")
    write_manifest(folder, replace(read_manifest(folder), files=describe_files(folder)))
    names = [node.outputs[0].name for node in ir.load(folder / "decode.onnx").graph if node.op_type == "Conv"]
    monkeypatch.setattr(
        variants, "find_overflow", lambda path, calls: {names[0]: 123456.0} if path.name == "decode.onnx" else {}
    )
    manifest = convert_bundle(folder, "fp16")
    audit = _audit(manifest, "decode")
    assert audit.overflow == {names[0]: 123000.0}
    assert audit.islands["overflow"] >= 1 and 0 < audit.shares["fp32"] < 0.5
    # Other variants of the fp32 graphs are deleted.
    assert not (folder / "step.other.onnx").exists() and "step.other.onnx" not in manifest.files


def test_storage_and_precision_together_are_refused(checkpoint: Path, tmp_path: Path) -> None:
    from alterbute_export.export_bundle import export_bundle

    with pytest.raises(CheckpointError, match="--storage fp32 was given with --precision fp16"):
        export_bundle(checkpoint, tmp_path / "bundle", storage="fp32", precision="fp16")
