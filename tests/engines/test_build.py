"""Real engines on every run: TensorRT-RTX builds without a GPU. What crashes, hangs or is cancelled leaves nothing behind."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from alterbute.bundle import default_bundle_path, open_bundle, verify_bundle
from alterbute_export.cli import main
from alterbute_export.engine.audit import Audit, check_audit, count_plan
from alterbute_export.engine.build import build_engines, side_folder
from alterbute_export.engine.recipe import Bucket, Recipe, read_recipe
from alterbute_export.errors import BuildError

from tests.conftest import FamilyFolder
from tests.engines.conftest import RECIPES, need_rtx


def _files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def _quiet(task: str, step: int, steps: int) -> None:
    pass


def _worker(tmp_path: Path, body: str) -> list[str]:
    """A worker that is a script of a few lines."""
    path = tmp_path / "worker.py"
    path.write_text("import json, os, signal, sys, time\n" + body)
    return [sys.executable, str(path)]


@pytest.mark.parametrize("which", ["demo", "tiny", "grid"])
def test_the_five_graphs_build_in_fp16(
    which: str, tiny_bundle: Path, family_bundle: FamilyFolder, tmp_path: Path
) -> None:
    need_rtx()
    folder = tmp_path / "bundle"
    sources: dict[str, Callable[[], Path]] = {
        "demo": default_bundle_path,
        "tiny": lambda: tiny_bundle,
        "grid": lambda: family_bundle("sd15-grid"),
    }
    shutil.copytree(sources[which](), folder)
    recipe = read_recipe(RECIPES / "rtx_fp16.toml")
    told: list[str] = []
    outcome = build_engines(folder, recipe, report=lambda task, step, steps: told.append(task))
    bundle = verify_bundle(folder)
    assert [engine.graph for engine in bundle.manifest.engines] == ["prompt", "identity", "scene", "step", "decode"]
    for engine in bundle.manifest.engines:
        assert engine.product == "tensorrt_rtx"
        assert engine.onnx == bundle.manifest.files[engine.source].sha256
        assert (folder / engine.file).stat().st_size > 100_000
    for built in outcome.plans.values():
        # Wide are the products of guidance and solver, and those of the timestep.
        assert sum(built.audit.work.values()) - built.audit.work["fp16"] <= 4
    # The builder's own phases, by graph.
    assert len({task for task in told if task.startswith("step: ")}) >= 2


def test_bf16_builds_from_weights_of_its_own(copy: Path) -> None:
    need_rtx()
    recipe = replace(read_recipe(RECIPES / "rtx_fp16.toml"), name="rtx_bf16", precision="bf16")
    outcome = build_engines(copy, recipe, report=_quiet, measure=False, graphs=("scene",))
    (engine,) = verify_bundle(copy).manifest.engines
    assert engine.weights.keys() == {"weights.bin", "weights_bf16.bin"}
    assert outcome.plans["scene"].audit.work.keys() == {"bf16"}


def test_a_bundle_whose_files_have_two_names_builds(copy: Path, tmp_path: Path) -> None:
    """uv installs wheels so, and the demo bundle with them."""
    (tmp_path / "names").mkdir()
    for path in copy.glob("*"):
        if path.is_file():
            os.link(path, tmp_path / "names" / path.name)
    build_engines(copy, replace(read_recipe(RECIPES / "cpu.toml"), precision="bf16"), report=_quiet, measure=False)
    assert (copy / "weights_bf16.bin").is_file()


def test_building_again_replaces_the_recipe_and_drops_the_signature(copy: Path, tmp_path: Path) -> None:
    need_rtx()
    from alterbute_export.packaging.sign import make_key, sign_bundle

    recipe = read_recipe(RECIPES / "rtx_fp16.toml")
    for _ in range(2):
        build_engines(copy, recipe, report=_quiet, measure=False, graphs=("decode",))
        assert not (copy / "manifest.sig").exists()
        make_key(tmp_path / f"{time.monotonic_ns()}.pem")
        sign_bundle(copy, next(tmp_path.glob("*.pem")))
    assert [engine.graph for engine in open_bundle(copy).manifest.engines] == ["decode"]


def test_a_half_recipe_whose_engine_is_mostly_fp32_fails(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    need_rtx()
    from alterbute_export.half import variant_file
    from alterbute_export.half.convert import convert_graph

    def keep_fp32(model: Any, precision: Any, *, fp32_values: Any = ()) -> Any:
        return convert_graph(model, "fp32")

    monkeypatch.setattr(variant_file, "convert_graph", keep_fp32)
    # The graph's own audit would say so first; the engine's audit finds a builder that computes in fp32 what the graph has in fp16.
    monkeypatch.setattr(variant_file, "check_types", lambda graph, precision, audit: None)
    before = _files(copy)
    with pytest.raises(BuildError, match=r"0 of .* convolutions and products of graph 'decode' are fp16"):
        build_engines(copy, read_recipe(RECIPES / "rtx_fp16.toml"), report=_quiet, measure=False, graphs=("decode",))
    assert _files(copy) == before


def test_a_graph_that_the_parser_does_not_know_is_named_with_its_operator(copy: Path) -> None:
    need_rtx()
    import onnx

    path = copy / "decode.onnx"
    model = onnx.load(path, load_external_data=False)
    node = next(node for node in model.graph.node if node.op_type == "DepthToSpace")
    node.op_type, node.domain = "Mystery", "example"
    del node.attribute[:]
    model.opset_import.append(onnx.helper.make_opsetid("example", 1))
    _replace_file(copy, "decode.onnx", model.SerializeToString())
    with pytest.raises(BuildError, match="Mystery"):
        build_engines(copy, read_recipe(RECIPES / "rtx_fp16.toml"), report=_quiet, measure=False, graphs=("decode",))


def _replace_file(folder: Path, name: str, data: bytes) -> None:
    from alterbute.bundle import describe_files, write_manifest

    manifest = open_bundle(folder).manifest
    (folder / name).write_bytes(data)
    write_manifest(folder, replace(manifest, files=describe_files(folder)))


@pytest.mark.skipif(os.name == "nt", reason="signals of Unix")
@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("os.kill(os.getpid(), signal.SIGSEGV)", "the builder crashed .SIGSEGV. on graph 'decode'"),
        ("os.kill(os.getpid(), signal.SIGKILL)", "the builder crashed .SIGKILL."),
        ("print('[E] out of tactics', file=sys.stderr); os.abort()", "SIGABRT.*last words: .E. out of tactics"),
        ("sys.exit(3)", "the builder ended with code 3"),
        ("print('not a message'); print('[1]'); sys.exit(0)", "ended with code 0"),
        ("print(json.dumps({'error': ['a', 'b', 'c']}))", "a; expected b; c"),
    ],
)
def test_a_builder_that_fails_is_a_message_and_leaves_nothing(
    copy: Path, tmp_path: Path, body: str, words: str
) -> None:
    before = _files(copy)
    with pytest.raises(BuildError, match=words):
        build_engines(copy, _recipe(), report=_quiet, measure=False, graphs=("decode",), worker=_worker(tmp_path, body))
    assert _files(copy) == before
    assert sorted(path.name for path in copy.parent.iterdir()) == ["bundle", "worker.py"]


def _recipe() -> Recipe:
    recipe = read_recipe(RECIPES / "rtx_fp16.toml")
    return replace(recipe, buckets=(Bucket(slots=1, rows=2),))


def _take_sigint_again() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.mark.skipif(os.name == "nt", reason="signals of Unix")
def test_ctrl_c_ends_a_real_build_and_leaves_nothing(tmp_path: Path) -> None:
    need_rtx()
    folder = tmp_path / "bundle"
    shutil.copytree(default_bundle_path(), folder)
    before = _files(folder)
    command = [
        sys.executable,
        "-m",
        "alterbute_export",
        "engine",
        str(folder),
        "--recipe",
        str(RECIPES / "rtx_fp16.toml"),
    ]
    # Three graphs, so that some of the build is left whenever the signal comes.
    command += ["--graph", "step", "--graph", "scene", "--graph", "decode", "--no-measure"]
    # A shell that runs the tests in the background (`make test &`) starts them with SIGINT ignored, which children inherit.
    child = subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, start_new_session=True, preexec_fn=_take_sigint_again
    )
    assert child.stderr is not None
    for line in child.stderr:
        if line.startswith("step"):
            break
    time.sleep(0.5)
    os.killpg(child.pid, signal.SIGINT)
    start = time.monotonic()
    assert child.wait(timeout=60) == 130
    assert time.monotonic() - start < 30
    assert _files(folder) == before
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]


def test_the_command_builds_and_says_what_it_built(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    need_rtx()
    recipe = str(RECIPES / "rtx_fp16.toml")
    assert main(["engine", str(copy), "--recipe", recipe, "--graph", "decode", "--graph", "scene", "--no-measure"]) == 0
    told = capsys.readouterr().err
    assert "arithmetic 100.0% fp16" in told
    assert "built rtx_fp16" in told
    assert [engine.graph for engine in open_bundle(copy).manifest.engines] == ["decode", "scene"]


def test_a_cpu_recipe_writes_variants_and_no_plans(copy: Path) -> None:
    outcome = build_engines(copy, read_recipe(RECIPES / "cpu.toml"), report=_quiet, measure=False)
    assert not outcome.plans
    assert not open_bundle(copy).manifest.engines
    assert not side_folder(copy).exists()


def test_the_inspectors_report_is_counted_by_type() -> None:
    report = """{"Layers": [
        {"Name": "conv", "Outputs": [{"Name": "a", "Format/Datatype": "Channel major FP16 format"}]},
        {"Name": "norm", "Outputs": [{"Name": "b", "Format/Datatype": "Row major linear FP32"}]},
        {"Name": "shape", "Outputs": [{"Name": "c", "Format/Datatype": "Row major Int64"}]},
        {"Name": "none", "Outputs": []}, "a name alone"]}"""
    assert count_plan(report) == {"fp16": 1, "fp32": 1, "other": 3}


def test_an_engine_with_a_fifth_of_its_work_in_fp32_passes_and_more_does_not() -> None:
    check_audit("step", "fp16", Audit(work={"fp16": 80, "fp32": 20, "other": 5}, layers={}, plan={}))
    with pytest.raises(BuildError, match="79 of 100"):
        check_audit("step", "fp16", Audit(work={"fp16": 79, "fp32": 21}, layers={}, plan={}))
