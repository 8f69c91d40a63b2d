"""Memory and disk of an export are estimated before it starts; an export that exceeds them is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from alterbute_export.checkpoint.reader import read_checkpoint
from alterbute_export.checks import resources
from alterbute_export.checks.parity import compare_graph, run_reference
from alterbute_export.checks.resources import ResourceEstimate, check_room, estimate_resources
from alterbute_export.errors import ResourceError
from alterbute_export.export_bundle import export_bundle, load_models
from alterbute_export.families import build_family
from torch import nn

from tests.conftest import FamilyFolder


def test_the_estimate_follows_the_headers(family_checkpoint: FamilyFolder) -> None:
    checkpoint = read_checkpoint(family_checkpoint("sd15-adapter"))
    weights = 0
    for part in checkpoint.parts:
        weights += sum(value.numel() for value in checkpoint.load(part).state_dict().values())
    adapter = sum(value.numel() for value in checkpoint.load_adapter().values())
    plain, half = (estimate_resources(checkpoint, precision) for precision in ("fp32", "fp16"))
    assert plain.fp32 == 4 * (weights + adapter)
    assert plain.disk == 2 * (weights + adapter) and half.disk == 2 * plain.disk
    assert plain.memory > plain.fp32
    assert half.memory >= plain.memory


def test_too_little_memory_is_refused_before_anything_is_loaded(
    family_checkpoint: FamilyFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resources, "available_memory", lambda: 100_000_000)
    monkeypatch.setattr(
        "alterbute_export.checkpoint.load_model.load_part", lambda *arguments: pytest.fail("a model was loaded")
    )
    with pytest.raises(ResourceError, match=r"0\.1 GB of memory.*about 0\.\d GB, for graph step.*--allow-shortage"):
        export_bundle(family_checkpoint("sd15-adapter"), tmp_path / "bundle")
    assert not any(tmp_path.iterdir())


def test_too_little_disk_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ResourceError, match=r"GB of disk are free.*about 1000000\.0 GB"):
        check_room(ResourceEstimate(memory=0, disk=10**15, graph="step", fp32=0), tmp_path / "not" / "there")


def test_models_are_loaded_by_the_makers_alone(
    family_checkpoint: FamilyFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = read_checkpoint(family_checkpoint("sdxl-adapter-plus"))
    models = load_models(checkpoint)
    assert all(value.is_meta for model in (models.unet, models.vae) for value in model.state_dict().values())
    monkeypatch.setattr(
        "alterbute_export.checkpoint.load_model.load_part", lambda *arguments: pytest.fail("a model was loaded")
    )
    build_family(checkpoint, models)


def test_a_loaded_part_equals_that_of_its_library(family_checkpoint: FamilyFolder) -> None:
    checkpoint = read_checkpoint(family_checkpoint("sdxl-adapter"))
    from alterbute_export.checkpoint.load_model import _load_by_library

    for part in ("unet", "vae"):
        weights = checkpoint.load(part).state_dict()
        library_weights = _load_by_library(checkpoint.parts[part], checkpoint.configs[part]).state_dict()
        assert weights.keys() == library_weights.keys()
        assert all(torch.equal(value, library_weights[name].float()) for name, value in weights.items())


def test_merging_into_mapped_weights_leaves_the_checkpoint_as_it_was(tmp_path: Path) -> None:
    from tests.support.checkpoints import make_checkpoint

    folder = make_checkpoint(tmp_path / "fp32", "sd15", dtype=torch.float32)
    (file,) = (folder / "unet").glob("*.safetensors")
    before = file.read_bytes()
    for parameter in read_checkpoint(folder, "fp32").load("unet").parameters():
        parameter.add_(1)
    assert file.read_bytes() == before


def test_parity_needs_no_model_once_the_reference_has_run(tmp_path: Path) -> None:
    from alterbute_export.graphs.spec import GraphSpec, drop_models, edge
    from alterbute_export.onnx_io.weights import WeightStore
    from alterbute_export.onnx_io.write_onnx import write_graph

    layer = nn.Linear(32, 48).requires_grad_(False)
    spec = GraphSpec(
        name="linear",
        graph=layer,
        reference=layer,
        inputs=(edge("x", "float32", "B", 32),),
        outputs=(edge("y", "float32", "B", 48),),
        trace_sizes={"B": 2},
        check_sizes=({"B": 1}, {"B": 3}),
    )
    reference = run_reference(spec)
    path = write_graph(spec, WeightStore(tmp_path, half=False))
    spec_without_models = drop_models(spec)
    assert not isinstance(spec_without_models.graph, nn.Module)
    assert compare_graph(spec_without_models, path, reference).relative_error <= 1e-6
