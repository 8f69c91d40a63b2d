"""What a manifest says of a prebuilt engine: what it was built from, for which machine, and how.

A plan is executable code that only fits what it was built for. All of it is checked here, before an engine library
sees a byte.
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
"""Of engines, and of graphs that engines are built from."""
VariantPrecision: TypeAlias = Literal["fp32", "fp16", "bf16", "int8"]
"""Of graphs; int8 ones are made for ONNX Runtime's CPU."""
Fit: TypeAlias = Literal["same_gpu", "same_compute_capability", "ampere_plus", "portable"]
"""On which GPUs a plan runs, narrowest first; `portable` is TensorRT-RTX's, for the capabilities that it lists."""

_CAPABILITY: Final = re.compile(r"\d{1,2}\.\d")


@dataclass(frozen=True, slots=True, kw_only=True)
class ShapeRange:
    """The smallest, the best and the largest shape of one input."""

    min: tuple[int, ...]
    opt: tuple[int, ...]
    max: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """One plan file.

    `version` is the builder's, `capabilities` the GPUs' that it was built for (`9.0`), `gpu` the name of the GPU that it was
    timed on and empty where none was needed, `cuda` the CUDA release the builder was made with, `driver` the lowest driver
    that can run it. `profiles` holds one record per bucket: input name to shapes. `builder` are the settings, `onnx` is the
    SHA-256 of the graph file and `weights` that of each external data file, by name. `refit` "identical" means that the plan
    has no weights and takes those of `onnx` when it is loaded.
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
    """What types alone cannot say of the manifest's `engines`.

    Raises:
        KeyFault: an entry names a graph or file that the manifest lacks, or holds a malformed number; its key is named.
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
