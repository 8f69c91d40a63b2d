"""The manifest's entries of prebuilt engines: built from which graph, for which machine, and how.

An engine is executable code that fits only the machine and graph that it was built for. Entries are checked before an engine
library reads a byte of the engine.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from alterbute.bundle import typed_json
from alterbute.bundle.typed_json import Json

Product: TypeAlias = Literal["tensorrt", "tensorrt_rtx"]
Precision: TypeAlias = Literal["fp32", "fp16", "bf16"]
"""Precision of engines, and of graphs that engines are built from."""
VariantPrecision: TypeAlias = Literal["fp32", "fp16", "bf16", "int8"]
"""Precision of a graph's variant; `int8` is for ONNX Runtime's CPU provider only."""
Fit: TypeAlias = Literal["same_gpu", "same_compute_capability", "ampere_plus", "portable"]
"""On which GPUs an engine runs, narrowest first; `portable` engines of TensorRT-RTX run on the capabilities that they list."""

_CAPABILITY: Final = re.compile(r"\d{1,2}\.\d")


@dataclass(frozen=True, slots=True, kw_only=True)
class ShapeRange:
    """Smallest, optimal and largest shape of one input."""

    min: tuple[int, ...]
    opt: tuple[int, ...]
    max: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """A prebuilt engine file.

    `version` is the builder's version, `capabilities` the compute capabilities that it was built for (`9.0`), `gpu` the name of
    the GPU on which it was timed (empty where none was needed), `cuda` the CUDA release of the builder, `driver` the lowest
    driver that can run it. `profiles` has one record per bucket, from input name to shapes. `builder` holds the builder's
    settings, `onnx` the SHA-256 of the graph file and `weights` that of each external data file, by name. `refit` "identical"
    means that the engine has no weights and takes those of `onnx` when it is loaded.
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
        KeyFault: an entry names a graph or file that the manifest does not list, or holds a malformed number.
    """
    taken: set[tuple[str, str]] = set()
    for index, engine in enumerate(engines):
        key = f"engines[{index}]"
        if engine.graph not in graphs:
            raise typed_json.KeyFault(f"{key}.graph", repr(engine.graph), f"one of {', '.join(sorted(graphs))}")
        for field in ("file", "source"):
            if getattr(engine, field) not in files:
                raise typed_json.KeyFault(f"{key}.{field}", repr(getattr(engine, field)), "a name listed in `files`")
        for name in engine.weights:
            if name not in files:
                raise typed_json.KeyFault(f"{key}.weights", repr(name), "a name listed in `files`")
        if (engine.recipe, engine.graph) in taken:
            raise typed_json.KeyFault(key, f"a second {engine.graph} of recipe {engine.recipe}", "one")
        taken.add((engine.recipe, engine.graph))
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
    if not engine.capabilities:
        raise typed_json.KeyFault(f"{key}.capabilities", "empty", "at least one, such as 9.0")
    for capability in engine.capabilities:
        if not _CAPABILITY.fullmatch(capability):
            raise typed_json.KeyFault(f"{key}.capabilities", repr(capability), "a compute capability such as 9.0")
    for field in ("version", "cuda", "driver"):
        if not re.fullmatch(r"\d+(\.\d+){0,4}", getattr(engine, field)):
            raise typed_json.KeyFault(f"{key}.{field}", repr(getattr(engine, field)), "numbers and dots")
    if not engine.profiles:
        raise typed_json.KeyFault(f"{key}.profiles", "empty", "at least one bucket")
    for number, profile in enumerate(engine.profiles):
        for name, shape in profile.items():
            sizes = list(zip(shape.min, shape.opt, shape.max, strict=False))
            same_rank = len(shape.min) == len(shape.opt) == len(shape.max)
            if not same_rank or any(not 0 <= low <= best <= high for low, best, high in sizes):
                seen = f"{list(shape.min)}, {list(shape.opt)}, {list(shape.max)}"
                raise typed_json.KeyFault(f"{key}.profiles[{number}].{name}", seen, "min <= opt <= max, of one rank")
