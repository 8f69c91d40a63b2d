"""Messages between exporter and build process, as JSON: the job that the child reads, and the result that it prints."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from alterbute.bundle import Precision, Product, ShapeRange
from alterbute.bundle.engines import Fit

from alterbute_export.engine.audit import Audit
from alterbute_export.engine.recipe import BuilderOptions


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildJob:
    """One plan to build."""

    product: Product
    graph: str
    source: str
    """Path of the ONNX file, beside its weights."""
    output: str
    """Path of the plan to write."""
    precision: Precision
    fit: Fit
    builder: BuilderOptions
    profiles: tuple[Mapping[str, ShapeRange], ...]
    timing_cache: str | None
    """Path of the timing cache, which is read if it exists, and written; None builds without."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BuiltPlan:
    """Result of a job whose plan was built."""

    version: str
    """Version of the builder's library."""
    seconds: float
    peak_rss_mib: int
    """Largest resident memory of the build process, in MiB."""
    audit: Audit
    memory: int | None
    """Scratch memory of the plan in bytes; None without a GPU."""
    information: str | None
    """The inspector's report about the plan's layers, in JSON; None without a GPU."""
