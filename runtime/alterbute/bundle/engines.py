"""The manifest's entries of prebuilt engines: source graph, target machine and build settings of each.

An engine is executable code that runs only on the machines, and for the graph, that it was built for. Its entry is checked
before an engine library reads a byte of the file.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from alterbute.bundle import typed_json
from alterbute.bundle.strict_json import Json

Product: TypeAlias = Literal["tensorrt", "tensorrt_rtx"]
Precision: TypeAlias = Literal["fp32", "fp16", "bf16"]
"""Precision of an engine, or of a graph that engines are built from."""
VariantPrecision: TypeAlias = Literal["fp32", "fp16", "bf16", "int8"]
"""Precision of a graph's variant; `int8` runs on ONNX Runtime's CPU provider only."""
Fit: TypeAlias = Literal["same_gpu", "same_compute_capability", "ampere_plus", "portable"]
"""GPUs that can run an engine, from the smallest set to the largest; `portable` is TensorRT-RTX on the listed capabilities."""

_CAPABILITY: Final = re.compile(r"[0-9]{1,2}\.[0-9]")
WEIGHTS_NAME: Final = re.compile(r"weights[A-Za-z0-9_.-]*\.bin")
"""Names of the files that may hold the weights of graphs."""
_VERSION: Final = re.compile(r"[0-9]{1,9}(\.[0-9]{1,9}){0,4}")
_MAX_ENGINES: Final = 256
_MAX_PROFILES: Final = 256
_MAX_AXES: Final = 16
_MAX_SIZE: Final = 2**31 - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class ShapeRange:
    """Smallest, optimal and largest shape of one input in an optimization profile."""

    min: tuple[int, ...]
    opt: tuple[int, ...]
    max: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """A prebuilt engine file.

    Args:
        graph: Name of the graph that the engine runs.
        file: Name of the engine file.
        recipe: Name of the recipe that it was built by.
        product: The engine library.
        version: Version of the engine library that built it.
        platform: Operating system and processor, such as `linux_x86_64`.
        fit: GPUs that can run it.
        capabilities: Compute capabilities that it was built for, such as `9.0`.
        gpu: Name of the GPU on which it was timed; empty if it was built without a GPU.
        cuda: CUDA release of the builder.
        driver: Lowest driver version that can run it.
        precision: Precision of its heavy operators.
        profiles: One optimization profile per bucket: shapes by input name.
        builder: Settings of the builder.
        source: Name of the graph file that it was built from.
        onnx: SHA-256 of the graph file.
        weights: SHA-256 of each external data file, by name.
        timing_cache: SHA-256 of the timing cache that it was built with, or None.
        refit: "identical": the engine has no weights and takes those of `source` when it is loaded.
    """

    graph: str
    file: str
    recipe: str
    product: Product
    version: str
    platform: str
    fit: Fit
    capabilities: tuple[str, ...]
    gpu: str
    cuda: str
    driver: str
    precision: Precision
    profiles: tuple[Mapping[str, ShapeRange], ...]
    builder: Mapping[str, Json]
    source: str
    onnx: str
    weights: Mapping[str, str]
    timing_cache: str | None
    refit: Literal["none", "identical"]


def check_engines(engines: tuple[Engine, ...], files: Collection[str], graphs: Collection[str]) -> None:
    """Check the manifest's `engines` beyond their types.

    Args:
        engines: The entries.
        files: Names of the files that the manifest lists.
        graphs: Names of the manifest's graphs.

    Raises:
        KeyFault: an entry refers to a graph or file that the manifest does not list, or holds a malformed value.
    """
    if len(engines) > _MAX_ENGINES:
        raise typed_json.KeyFault("engines", f"a list of {len(engines)}", f"at most {_MAX_ENGINES}")
    recipe_graphs: set[tuple[str, str]] = set()
    for index, engine in enumerate(engines):
        key = f"engines[{index}]"
        if engine.graph not in graphs:
            raise typed_json.KeyFault(f"{key}.graph", repr(engine.graph), f"one of {', '.join(sorted(graphs))}")
        for field in ("file", "source"):
            if getattr(engine, field) not in files:
                raise typed_json.KeyFault(f"{key}.{field}", repr(getattr(engine, field)), "a name listed in `files`")
            if field == "source" and "/" in engine.source:
                raise typed_json.KeyFault(f"{key}.source", repr(engine.source), "a file that is in no folder")
        for name in engine.weights:
            if name not in files or not WEIGHTS_NAME.fullmatch(name):
                raise typed_json.KeyFault(f"{key}.weights", repr(name), "names of weights listed in `files`")
        if (engine.recipe, engine.graph) in recipe_graphs:
            raise typed_json.KeyFault(key, f"a second {engine.graph} of recipe {engine.recipe}", "one")
        recipe_graphs.add((engine.recipe, engine.graph))
        _check_digests(engine, key)
        _check_numbers(engine, key)


def _check_digests(engine: Engine, key: str) -> None:
    digests = {"onnx": engine.onnx, **{f"weights.{name}": digest for name, digest in engine.weights.items()}}
    if engine.timing_cache is not None:
        digests["timing_cache"] = engine.timing_cache
    for field, digest in digests.items():
        if not re.fullmatch(r"[0-9a-f]{64}", digest):
            raise typed_json.KeyFault(f"{key}.{field}", repr(digest), "64 hexadecimal digits")


def _check_numbers(engine: Engine, key: str) -> None:
    if not 1 <= len(engine.capabilities) <= 32:
        seen = f"a list of {len(engine.capabilities)}" if engine.capabilities else "empty"
        raise typed_json.KeyFault(f"{key}.capabilities", seen, "at least one, such as 9.0, at most 32")
    for capability in engine.capabilities:
        if not _CAPABILITY.fullmatch(capability):
            raise typed_json.KeyFault(f"{key}.capabilities", repr(capability), "a compute capability such as 9.0")
    for field in ("version", "cuda", "driver"):
        if not _VERSION.fullmatch(getattr(engine, field)):
            raise typed_json.KeyFault(f"{key}.{field}", repr(getattr(engine, field)), "numbers and dots")
    if not 1 <= len(engine.profiles) <= _MAX_PROFILES:
        seen = f"a list of {len(engine.profiles)}" if engine.profiles else "empty"
        raise typed_json.KeyFault(f"{key}.profiles", seen, f"at least one bucket, at most {_MAX_PROFILES}")
    for number, profile in enumerate(engine.profiles):
        for name, shape in profile.items():
            sizes = list(zip(shape.min, shape.opt, shape.max, strict=False))
            is_same_rank = len(shape.min) == len(shape.opt) == len(shape.max)
            is_bounded = len(sizes) <= _MAX_AXES and all(
                0 <= low <= best <= high <= _MAX_SIZE for low, best, high in sizes
            )
            if not (is_same_rank and is_bounded):
                seen = f"{list(shape.min)}, {list(shape.opt)}, {list(shape.max)}"
                raise typed_json.KeyFault(f"{key}.profiles[{number}].{name}", seen, "min <= opt <= max, of one rank")
