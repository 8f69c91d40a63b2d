"""Contenders as backends of the same editor; engines and half-precision graphs that they need are built first."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any, Final

from alterbute.backends import Backend, choose_backend, open_backend
from alterbute.backends.base import HOST_GRAPHS
from alterbute.backends.onnxruntime import OnnxRuntimeBackend
from alterbute.bundle import open_bundle

from benchmarks.gpu.gpu_machine import GpuMachine
from benchmarks.gpu.timed import Clock, CudaClock, HostClock, TimedBackend, TorchClock

RECIPES: Final = Path(__file__).parents[2] / "engines" / "recipes"


def open_contender(name: str, bundle: Path, checkpoint: Path) -> TimedBackend:
    """Load a contender as a backend that times its graphs.

    Args:
        name: One of `CONTENDERS`, or "onnxruntime" or "torch-cpu" for a run without a GPU.
        bundle: The bundle's folder, to which `prepare_bundle` added what the contender needs.
        checkpoint: The checkpoint that the bundle was exported from, which torch loads.
    """
    opened = open_bundle(bundle)
    if name.startswith("torch"):
        import torch

        from benchmarks.gpu.torch_backend import TorchBackend

        device = "cpu" if name == "torch-cpu" else "cuda"
        host = OnnxRuntimeBackend(opened, graphs=HOST_GRAPHS)
        dtype = torch.float16 if name.endswith("fp16") else torch.float32
        mode = "reduce-overhead" if "compile" in name else None
        inner: Backend = TorchBackend(checkpoint, host, device=device, dtype=dtype, compile_mode=mode)
        return TimedBackend(inner, HostClock() if device == "cpu" else TorchClock())
    if name == "onnxruntime":
        return TimedBackend(open_backend(name, opened), HostClock())
    device_backend: Any = choose_backend(name, opened, allow_unsigned=True).backend
    clock: Clock = CudaClock(device_backend.cuda)
    return TimedBackend(device_backend, clock)


def prepare_bundle(name: str, bundle: Path, machine: GpuMachine) -> str:
    """Add the engines or half-precision graphs that a contender needs to the bundle.

    Args:
        name: Name of the contender.
        bundle: The bundle's folder, changed in place.
        machine: Facts about this machine.

    Returns:
        Name of the recipe that the engines are built with; "" for contenders without engines.

    Raises:
        AlterbuteError: the build failed.
    """
    recipe = find_recipe(name, machine)
    if recipe:
        from alterbute_export.engine.build import build_engines
        from alterbute_export.engine.recipe import read_recipe

        built = {engine.recipe for engine in open_bundle(bundle).manifest.engines}
        if recipe not in built:
            build_engines(
                bundle, read_recipe(RECIPES / f"{recipe}.toml"), report=lambda task, step, steps: None, measure=False
            )
    elif name == "onnxruntime-cuda":
        _write_half_variants(bundle)
    return recipe


def find_recipe(name: str, machine: GpuMachine) -> str:
    """Name of the shipped fp16 recipe for a contender on this GPU; "" if there is none or no engines are needed."""
    if name == "tensorrt_rtx":
        return "rtx_fp16"
    if name != "tensorrt" or machine.driver.gpu is None:
        return ""
    words = machine.driver.gpu.name.replace("-", " ").split()
    return next(
        (path.stem for path in sorted(RECIPES.glob("*_fp16.toml")) if path.stem.split("_")[0].upper() in words), ""
    )


def _write_half_variants(bundle: Path) -> None:
    from dataclasses import replace

    from alterbute.bundle import describe_files, write_manifest
    from alterbute_export.half.variants import add_variants, write_variants
    from alterbute_export.packaging.atomic_folder import changed_bundle

    opened = open_bundle(bundle)
    if any(variant.precision == "fp16" for variant in opened.manifest.graphs["step"].variants):
        return
    with changed_bundle(bundle) as folder:
        written = write_variants(opened, folder, "fp16", measure=False)
        graphs = add_variants(opened.manifest.graphs, "fp16", written)
        write_manifest(folder, replace(opened.manifest, graphs=graphs, files=describe_files(folder)))


def free_bytes(name: str) -> int | None:
    """Free memory of the GPU in bytes, from torch or the CUDA runtime; None for contenders on the CPU."""
    if name in ("onnxruntime", "torch-cpu"):
        return None
    if name.startswith("torch"):
        return int(importlib.import_module("torch").cuda.mem_get_info()[0])
    runtime = importlib.import_module("cuda.bindings.runtime")
    return int(runtime.cudaMemGetInfo()[1])
