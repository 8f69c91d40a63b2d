"""Every family in every precision, and SD1.5 at its published size: built for real, too long for every run."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from alterbute.bundle import Precision, verify_bundle
from alterbute_export.engine.build import build_engines
from alterbute_export.engine.recipe import read_recipe
from alterbute_export.export_bundle import export_bundle
from alterbute_export.sample_checkpoints import make_checkpoint, make_sample_spec

from tests.engines.conftest import RECIPES, need_rtx

pytestmark = pytest.mark.slow
KINDS = (
    "sd15",
    "sd15-inpaint",
    "sd15-adapter",
    "sd15-instruct",
    "sd15-grid",
    "sd21-adapter",
    "sdxl-adapter",
    "sdxl-instruct",
    "sdxl-grid",
)


def _quiet(task: str, step: int, steps: int) -> None:
    pass


@pytest.fixture(scope="module", params=KINDS)
def family_bundle(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    need_rtx()
    folder = tmp_path_factory.mktemp(request.param)
    export_bundle(make_checkpoint(folder / "checkpoint", make_sample_spec(request.param)), folder / "bundle")
    return folder / "bundle"


@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16"])
def test_every_family_builds_in_every_precision(family_bundle: Path, tmp_path: Path, precision: Precision) -> None:
    folder = tmp_path / "bundle"
    shutil.copytree(family_bundle, folder)
    recipe = replace(read_recipe(RECIPES / "rtx_fp16.toml"), name=f"rtx_{precision}", precision=precision)
    outcome = build_engines(folder, recipe, report=_quiet)
    graphs = {name for name in verify_bundle(folder).manifest.graphs if name not in ("window", "paste")}
    assert set(outcome.plans) == graphs
    # An fp32 graph with fused attention adds in another order.
    limit = {"fp32": 1e-6, "fp16": 1e-2, "bf16": 5e-2}[precision]
    errors = [file.relative_error for variant in outcome.variants.values() for file in variant.files]
    assert all(error is not None and error <= limit for error in errors)


def test_sd15_at_published_size_builds_in_fp16(tmp_path: Path) -> None:
    need_rtx()
    checkpoint = make_checkpoint(tmp_path / "checkpoint", make_sample_spec("sd15-adapter", "published"))
    bundle = tmp_path / "bundle"
    export_bundle(checkpoint, bundle, storage="fp16")
    build_engines(bundle, read_recipe(RECIPES / "rtx_fp16.toml"), report=_quiet, measure=False)
    assert 1.6e9 < (bundle / "rtx_fp16" / "step.plan").stat().st_size < 2.2e9
