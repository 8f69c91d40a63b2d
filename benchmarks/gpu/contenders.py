"""What a backend needs in a bundle before it can be measured: engines, or half-precision graphs."""

from __future__ import annotations

import os
import shutil
from functools import partial
from pathlib import Path
from typing import Final

from alterbute.bundle import open_bundle

from benchmarks.gpu.cases import open_measured
from benchmarks.gpu.gpu_machine import GpuMachine

RECIPES: Final = Path(__file__).parents[2] / "engines" / "recipes"


def add_engines(name: str, bundle: Path, work: Path, machine: GpuMachine) -> tuple[Path, str]:
    """Build a backend's engines into a copy of the bundle, whose weights are links to the original's.

    Args:
        name: "tensorrt" or "tensorrt_rtx".
        bundle: The bundle's folder, which stays as it is.
        work: Folder of the copy.
        machine: Facts about this machine, whose GPU chooses the recipe.

    Returns:
        The copy's folder, and the name of the recipe; "" and the bundle itself where no recipe is for this GPU.

    Raises:
        AlterbuteError: the build failed.
    """
    from alterbute_export.engine.build import build_engines
    from alterbute_export.engine.recipe import read_recipe

    recipe = find_recipe(name, machine)
    if not recipe:
        return bundle, ""
    target = work / f"{bundle.name}-{name}"
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(bundle, target, ignore=partial(_unlisted, bundle), copy_function=_link_or_copy)
    build_engines(target, read_recipe(RECIPES / f"{recipe}.toml"), report=lambda task, step, steps: None, measure=False)
    return target, recipe


def add_half_variants(bundle: Path) -> None:
    """Add fp16 graphs, the one made for CUDA among them, to an fp32 bundle, in place; a bundle that has them stays as it is."""
    if any(variant.precision == "fp16" for variant in open_bundle(bundle).manifest.graphs["step"].variants):
        return
    from alterbute_export.engine.build import build_engines
    from alterbute_export.engine.recipe import read_recipe

    recipe = read_recipe(RECIPES / "cuda_fp16.toml")
    build_engines(bundle, recipe, report=lambda task, step, steps: None, measure=False)


def find_recipe(name: str, machine: GpuMachine) -> str:
    """Name of the shipped fp16 recipe for a backend on this GPU; "" if there is none or no engines are needed."""
    if name == "tensorrt_rtx":
        return "rtx_fp16"
    if name != "tensorrt" or machine.driver.gpu is None:
        return ""
    words = machine.driver.gpu.name.replace("-", " ").split()
    return next(
        (path.stem for path in sorted(RECIPES.glob("*_fp16.toml")) if path.stem.split("_")[0].upper() in words), ""
    )


def _unlisted(bundle: Path, folder: str, names: list[str]) -> list[str]:
    """Graphs at the top of the bundle that its manifest does not list; a bundle that has any is refused."""
    files = open_measured(bundle).manifest.files
    return [name for name in names if Path(folder) == bundle and name.endswith(".onnx") and name not in files]


def _link_or_copy(source: str, target: str) -> None:
    if Path(source).suffix != ".bin":
        shutil.copy2(source, target)
        return
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
