"""Recipes: the shipped ones are sound and say why, wrong ones are refused by key, dry runs say what would be built."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from alterbute.backends.cuda.driver import Driver, Gpu
from alterbute.bundle import open_bundle
from alterbute_export.cli import main
from alterbute_export.engine.build import check_machine
from alterbute_export.engine.estimate import device_bytes, estimate
from alterbute_export.engine.profiles import make_profiles
from alterbute_export.engine.recipe import read_recipe
from alterbute_export.errors import BuildError

from tests.engines.conftest import RECIPES

NAMES = sorted(path.stem for path in RECIPES.glob("*.toml"))


def test_the_targets_of_the_design_have_recipes() -> None:
    assert {"h100_fp16", "h200_fp16", "a100_fp16", "l4_fp16", "l40s_fp16", "rtx_fp16", "cuda_fp16", "cpu"} <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_shipped_recipe_is_read_and_named_as_its_file(name: str) -> None:
    assert read_recipe(RECIPES / f"{name}.toml").name == name


@pytest.mark.parametrize("name", NAMES)
def test_every_choice_of_a_shipped_recipe_has_a_comment(name: str) -> None:
    lines = (RECIPES / f"{name}.toml").read_text().splitlines()
    for index, line in enumerate(lines):
        key = line.split(" =")[0]
        if " = " not in line or key in (
            "schema_version",
            "name",
            "capabilities",
            "driver",
            "slots",
            "rows",
            "min_slots",
            "min_rows",
        ):
            continue
        assert lines[index - 1].startswith("#"), f"{name}: {key}"


@pytest.mark.parametrize("name", NAMES)
def test_every_shipped_recipe_fits_the_tiny_bundle(tiny_bundle: Path, name: str) -> None:
    bundle, recipe = open_bundle(tiny_bundle), read_recipe(RECIPES / f"{name}.toml")
    estimates = estimate(bundle, recipe)
    assert {item.graph for item in estimates} == {"prompt", "identity", "scene", "step", "decode"}
    assert device_bytes(estimates, recipe) > 0


def test_buckets_hold_every_launch_of_an_editor_with_the_defaults() -> None:
    for name in NAMES:
        recipe = read_recipe(RECIPES / f"{name}.toml")
        if recipe.buckets:
            assert max(bucket.slots for bucket in recipe.buckets) >= 4, name
            assert any(bucket.slots >= 4 and bucket.rows >= 8 for bucket in recipe.buckets), name


def test_profiles_are_one_per_bucket_and_resolution(tiny_bundle: Path, tmp_path: Path) -> None:
    text = (RECIPES / "h200_fp16.toml").read_text().replace("images = 2", "images = 2\nresolutions = [32, 64]")
    (tmp_path / "two.toml").write_text(text)
    recipe = read_recipe(tmp_path / "two.toml")
    profiles = make_profiles(open_bundle(tiny_bundle).manifest, "step", recipe)
    assert len(profiles) == 2 * len(recipe.buckets)
    assert {profile["state"].opt[-1] for profile in profiles} == {8, 16}


WRONG = {
    "no toml": ("name = ", "not TOML"),
    "an unknown key": ('product = "onnxruntime"\nprecision = "fp32"\nplugins = true\n', "`plugins` is an unknown key"),
    "a missing product": ('precision = "fp32"\n', "`product` is missing"),
    "an unknown precision": ('product = "tensorrt"\nprecision = "int3"\n', "`precision`"),
    "no builder": ('product = "tensorrt"\nprecision = "fp16"\n', "`builder` is missing"),
    "cuda without buckets": ('product = "onnxruntime-cuda"\nprecision = "fp16"\n', "`buckets` is empty"),
    "cuda in bf16": ('product = "onnxruntime-cuda"\nprecision = "bf16"\n', "`precision` is 'bf16'.*fused CUDA kernels"),
    "cuda with a fit": ('product = "onnxruntime-cuda"\nprecision = "fp16"\nfit = "same_gpu"\n', "it builds no plans"),
    "cuda with a range": (
        'product = "onnxruntime-cuda"\nprecision = "fp16"\n[[buckets]]\nslots = 2\nrows = 4\nmin_rows = 1\n',
        r"`buckets\[0\]` is a range",
    ),
}


@pytest.mark.parametrize(("text", "words"), WRONG.values(), ids=WRONG.keys())
def test_a_wrong_recipe_is_refused_by_its_key(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "wrong.toml").write_text('schema_version = 1\nname = "wrong"\n' + text)
    with pytest.raises(BuildError, match=words):
        read_recipe(tmp_path / "wrong.toml")


CHANGES = {
    "a newer schema": ("schema_version = 1", "schema_version = 2", "schema_version"),
    "a name with a slash": ('name = "h200_fp16"', 'name = "../h200"', "name"),
    "a fit that the product has not": ('fit = "same_gpu"', 'fit = "portable"', "fit"),
    "a level of 9": ("optimization_level = 4", "optimization_level = 9", "optimization_level"),
    "no workspace": ("workspace_mib = 16384", "workspace_mib = 0", "workspace"),
    "a capability in words": ('capabilities = ["9.0"]', 'capabilities = ["hopper"]', "capabilities"),
    "more slots than rows": ("slots = 4\nrows = 8", "slots = 9\nrows = 8", "buckets"),
    "plain refit": ('refit = "none"', 'refit = "plain"', "refit"),
}


@pytest.mark.parametrize(("before", "after", "words"), CHANGES.values(), ids=CHANGES.keys())
def test_a_wrong_choice_is_refused_by_its_key(tmp_path: Path, before: str, after: str, words: str) -> None:
    text = (RECIPES / "h200_fp16.toml").read_text()
    assert before in text
    (tmp_path / "wrong.toml").write_text(text.replace(before, after, 1))
    with pytest.raises(BuildError, match=words):
        read_recipe(tmp_path / "wrong.toml")


def test_a_resolution_that_the_latent_grid_does_not_divide_is_refused(tiny_bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "odd.toml").write_text(
        (RECIPES / "h200_fp16.toml").read_text().replace("images = 2", "images = 2\nresolutions = [33]")
    )
    with pytest.raises(BuildError, match="a multiple of 4"):
        make_profiles(open_bundle(tiny_bundle).manifest, "step", read_recipe(tmp_path / "odd.toml"))


def test_rtx_recipes_may_not_ask_for_what_needs_a_gpu(tmp_path: Path) -> None:
    (tmp_path / "rtx.toml").write_text(
        (RECIPES / "rtx_fp16.toml").read_text().replace('refit = "none"', 'refit = "identical"')
    )
    with pytest.raises(BuildError, match="does not use a GPU"):
        read_recipe(tmp_path / "rtx.toml")


def test_tensorrt_is_built_on_its_own_gpu_only() -> None:
    recipe = read_recipe(RECIPES / "h200_fp16.toml")
    with pytest.raises(BuildError, match=r"no driver.*tensorrt_rtx recipe, which needs no GPU"):
        check_machine(recipe, Driver(cuda="0.0", gpu=None, reason="no driver"))
    with pytest.raises(BuildError, match=r"L4 has compute capability 8.9.*expected 9.0"):
        check_machine(recipe, Driver(cuda="13.0", gpu=Gpu(name="L4", capability="8.9", memory=1), reason=""))
    check_machine(recipe, Driver(cuda="13.0", gpu=Gpu(name="H200", capability="9.0", memory=1), reason=""))


def test_a_dry_run_tells_shapes_and_memory_and_changes_nothing(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = sorted((path, path.stat().st_mtime_ns) for path in copy.rglob("*"))
    assert main(["engine", str(copy), "--recipe", str(RECIPES / "h200_fp16.toml"), "--dry-run"]) == 0
    told = capsys.readouterr().out
    assert "step" in told
    assert "B 4, h 8, w 8, N 12" in told
    assert "workspace cap included" in told
    assert sorted((path, path.stat().st_mtime_ns) for path in copy.rglob("*")) == before


def test_recipes_are_toml_that_any_reader_reads() -> None:
    for name in NAMES:
        assert tomllib.loads((RECIPES / f"{name}.toml").read_text())["schema_version"] == 1
