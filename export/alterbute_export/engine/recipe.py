"""Recipes: TOML files that describe how engines are built for a GPU."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from alterbute.bundle import Precision, typed_json
from alterbute.bundle.engines import Fit

from alterbute_export.errors import BuildError

RECIPE_SCHEMA: Final = 1
_FITS: Final = {"tensorrt": ("same_gpu", "same_compute_capability", "ampere_plus"), "tensorrt_rtx": ("portable",)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Bucket:
    """Shape of a step launch: `slots` images in `rows` UNet rows. With `min_slots` and `min_rows`, all shapes from these up to it."""

    slots: int
    rows: int
    min_slots: int | None = None
    min_rows: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BuilderOptions:
    """Settings of the builder; the files in `engines/recipes` explain each of them."""

    optimization_level: int
    workspace_mib: int
    aux_streams: int
    tf32: bool
    batch_invariant: bool
    timing_cache: bool
    sanitize: bool
    refit: Literal["none", "identical"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """A recipe file."""

    schema_version: int
    name: str
    product: Literal["tensorrt", "tensorrt_rtx", "onnxruntime", "onnxruntime-cuda"]
    """The library to build for; the two of ONNX Runtime build no plans and only write variants of the graphs."""
    precision: Precision
    fit: Fit | None = None
    capabilities: tuple[str, ...] = ()
    cuda: str = "13.0"
    driver: str = "580.65"
    resolutions: tuple[int, ...] = ()
    """Window sides in pixels; empty means all of the bundle's."""
    images: int = 1
    """Largest batch of the graphs that run before and after the steps."""
    buckets: tuple[Bucket, ...] = ()
    builder: BuilderOptions | None = None


def read_recipe(path: str | Path) -> Recipe:
    """Read and check a recipe file.

    Raises:
        BuildError: the file cannot be read, is no TOML, or a key is missing, unknown or wrong.
    """
    try:
        document = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as fault:
        raise BuildError(
            f"the recipe {path} cannot be read ({fault.strerror})", "a TOML file", "see engines/recipes"
        ) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as fault:
        raise BuildError(f"the recipe {path} is not TOML ({fault})", "a TOML file", "see engines/recipes") from None
    try:
        recipe = typed_json.build(Recipe, document)
        _check(recipe)
    except typed_json.KeyFault as fault:
        raise BuildError(
            f"{path} key `{fault.key}` is {fault.seen}", fault.expected, "correct the recipe; see engines/recipes"
        ) from None
    return recipe


def _check(recipe: Recipe) -> None:
    if recipe.schema_version != RECIPE_SCHEMA:
        raise typed_json.KeyFault("schema_version", str(recipe.schema_version), str(RECIPE_SCHEMA))
    if not re.fullmatch(r"[a-z0-9][a-z0-9_]*", recipe.name):
        raise typed_json.KeyFault("name", repr(recipe.name), "lower case letters, digits and _")
    if any(side < 8 for side in recipe.resolutions) or recipe.images < 1:
        raise typed_json.KeyFault(
            "resolutions", str(list(recipe.resolutions)), "sides in pixels, and images of 1 or more"
        )
    if recipe.product == "onnxruntime":
        if recipe.builder or recipe.buckets or recipe.fit:
            raise typed_json.KeyFault(
                "product", "'onnxruntime' with a builder", "no builder, buckets or fit: it builds no plans"
            )
        return
    if recipe.product == "onnxruntime-cuda":
        _check_cuda(recipe)
    else:
        _check_plan(recipe)
    _check_buckets(recipe)


def _check_cuda(recipe: Recipe) -> None:
    if recipe.builder or recipe.fit or recipe.capabilities:
        raise typed_json.KeyFault(
            "product", "'onnxruntime-cuda' with a builder", "no builder, fit or capabilities: it builds no plans"
        )
    if recipe.precision != "fp16":
        expected = "'fp16', the half precision that ONNX Runtime's fused CUDA kernels have"
        raise typed_json.KeyFault("precision", repr(recipe.precision), expected)
    for index, bucket in enumerate(recipe.buckets):
        if bucket.min_slots or bucket.min_rows:
            raise typed_json.KeyFault(
                f"buckets[{index}]", "a range", "slots and rows alone: one CUDA graph is captured per shape"
            )


def _check_plan(recipe: Recipe) -> None:
    if recipe.builder is None:
        raise typed_json.KeyFault("builder", "missing", "the builder's settings")
    if recipe.fit not in _FITS[recipe.product]:
        raise typed_json.KeyFault("fit", repr(recipe.fit), " or ".join(_FITS[recipe.product]))
    if not recipe.capabilities or not all(re.fullmatch(r"\d{1,2}\.\d", text) for text in recipe.capabilities):
        raise typed_json.KeyFault("capabilities", str(list(recipe.capabilities)), "compute capabilities such as 9.0")
    builder = recipe.builder
    if not 0 <= builder.optimization_level <= 5:
        raise typed_json.KeyFault("builder.optimization_level", str(builder.optimization_level), "0 to 5")
    if builder.workspace_mib < 1 or builder.aux_streams < 0:
        raise typed_json.KeyFault(
            "builder",
            f"workspace {builder.workspace_mib} MiB, {builder.aux_streams} streams",
            "numbers of 1 and 0 or more",
        )
    if recipe.product == "tensorrt_rtx" and (builder.refit != "none" or builder.timing_cache):
        raise typed_json.KeyFault(
            "builder", "refit or a timing cache", "neither: the builder of tensorrt_rtx does not use a GPU"
        )


def _check_buckets(recipe: Recipe) -> None:
    if not recipe.buckets:
        raise typed_json.KeyFault("buckets", "empty", "at least one")
    for index, bucket in enumerate(recipe.buckets):
        low = (bucket.min_slots or bucket.slots, bucket.min_rows or bucket.rows)
        if not (1 <= low[0] <= bucket.slots <= bucket.rows and 1 <= low[1] <= bucket.rows):
            raise typed_json.KeyFault(f"buckets[{index}]", str(bucket), "1 <= min <= slots <= rows")
