"""How many launches a captured step of the graph made for CUDA is, on a tiny bundle and at the depth of SD 1.5."""

from __future__ import annotations

import re
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path

import onnx
import pytest
from alterbute.bundle import LaunchShape, open_bundle, write_manifest
from alterbute_export.engine.recipe import read_recipe

from tests.conftest import ROOT, FamilyFolder, cache_folder
from tests.cuda import programs
from tests.cuda.call_log import StepLaunches
from tests.cuda.harness import StandIn
from tests.cuda.step_launches import count_step_launches
from tests.support.cached_build import build_once
from tests.support.deep_steps import make_deep_bundle

DIRECTIONS = 2
# 258 and 616 were measured; a kernel or two more may come with another version of ONNX Runtime.
TINY_BUDGET = 261
DEEP_BUDGET = 619
FUSED_ATTENTION_ONLY = 1400
# A sum over each group, and scale, shift and SiLU.
KERNELS_PER_NORM = 2
# The UNet's input becomes channels last, and its output channels first.
TRANSPOSES = 2
# cuDNN's batch normalization of each group, and scale and shift.
NORMS_BY_CUDNN = "BatchNorm|InstanceNorm"


def count(step: StepLaunches, pattern: str) -> int:
    return sum(number for name, number in step.names.items() if re.search(pattern, name))


def count_operators(file: Path) -> Counter[str]:
    return Counter(node.op_type for node in onnx.load(file, load_external_data=False).graph.node)


def group_norms(folder: Path) -> int:
    operators = count_operators(folder / "step.fp16.cuda.onnx")
    return operators["GroupNorm"] + operators["SkipGroupNorm"]


@pytest.fixture(scope="module")
def recipe_bundle(cuda_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny bundle with the launch shapes of the recipe `cuda_fp16`."""
    folder = tmp_path_factory.mktemp("recipe") / "bundle"
    shutil.copytree(cuda_bundle, folder, ignore=shutil.ignore_patterns("manifest.json"))
    manifest = open_bundle(cuda_bundle).manifest
    step = manifest.graphs["step"]
    variants = tuple(
        replace(variant, buckets=recipe_shapes()) if variant.backend == programs.BACKEND else variant
        for variant in step.variants
    )
    write_manifest(folder, replace(manifest, graphs={**manifest.graphs, "step": replace(step, variants=variants)}))
    return folder


def recipe_shapes() -> tuple[LaunchShape, ...]:
    buckets = read_recipe(ROOT / "engines" / "recipes" / "cuda_fp16.toml").buckets
    return tuple(LaunchShape(slots=bucket.slots, rows=bucket.rows) for bucket in buckets)


def test_a_tiny_step_keeps_its_budget_at_every_shape_of_the_recipe(standin: StandIn, recipe_bundle: Path) -> None:
    shapes = recipe_shapes()
    log = standin.run(programs.warm_up, recipe_bundle, shapes[-1].slots).check().log.between("opened", "warm")
    captures = log.captures()
    assert len(captures) == DIRECTIONS * len(shapes)
    assert log.illegal() == []
    assert [call for call in log.calls if call.capture and call.is_wait] == []
    for capture in {call.capture for call in captures}:
        step = log.launches_of(capture)
        assert 0 < step.total <= TINY_BUDGET, step.names
        assert count(step, "GroupNorm") == KERNELS_PER_NORM * group_norms(recipe_bundle)
        assert not count(step, NORMS_BY_CUDNN)
        assert count(step, "Transpose|geam") == TRANSPOSES


@pytest.fixture(scope="module")
def deep_bundle(request: pytest.FixtureRequest, standin: StandIn, family_bundle: FamilyFolder) -> Path:
    """A bundle with a step of SD 1.5's depth; made in about two minutes and cached."""
    tiny = family_bundle("sd15-adapter")
    return build_once(
        cache_folder(request, "deep-bundles") / "sd15", "manifest.json", lambda folder: make_deep_bundle(tiny, folder)
    )


@pytest.mark.slow
def test_a_step_of_sd15s_depth_is_less_than_half_the_launches_of_fused_attention_alone(
    standin: StandIn, deep_bundle: Path
) -> None:
    operators = count_operators(deep_bundle / "step.fp16.cuda.onnx")
    # 22 residual blocks with two norms each, 16 transformers with one, and the output's.
    assert group_norms(deep_bundle) == 22 * 2 + 16 + 1
    assert operators["BiasSplitGelu"] == 16
    step = count_step_launches(standin, deep_bundle, 1, 2)
    assert step.total <= DEEP_BUDGET, step.names
    assert count(step, "GroupNorm") == KERNELS_PER_NORM * 61
    assert not count(step, NORMS_BY_CUDNN)
    assert count(step, "Transpose|geam") == TRANSPOSES
    fused = count_step_launches(standin, deep_bundle, 1, 2, "step.fp16.mha.onnx")
    assert fused.total > FUSED_ATTENTION_ONLY
    assert count(fused, NORMS_BY_CUDNN) == 2 * 61
