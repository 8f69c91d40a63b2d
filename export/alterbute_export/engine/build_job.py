"""What the parent tells the child to build, and what the child says back; both are JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from alterbute.bundle import Precision, Product, ShapeRange
from alterbute.bundle.engines import Fit

from alterbute_export.engine.audit import Audit
from alterbute_export.engine.recipe import BuilderOptions


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildJob:
    """One plan to build. Paths are the parent's; `timing_cache` is read when it exists, and written."""

    product: Product
    graph: str
    source: str
    output: str
    precision: Precision
    fit: Fit
    builder: BuilderOptions
    profiles: tuple[Mapping[str, ShapeRange], ...]
    timing_cache: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Built:
    """What became of a job. `information` is the inspector's report, `memory` the plan's scratch bytes; both need a GPU."""

    version: str
    seconds: float
    peak_rss_mib: int
    audit: Audit
    memory: int | None
    information: str | None
