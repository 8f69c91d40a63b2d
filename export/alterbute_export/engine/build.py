"""Builds of a recipe: half-precision variants, plans and manifest entries, all of them or none."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Final, TypeAlias

from alterbute.backends.cuda.driver import Driver, probe_driver, this_platform
from alterbute.bundle import (
    WEIGHTS_FILE,
    Bundle,
    Engine,
    LaunchShape,
    Manifest,
    Product,
    describe_files,
    verify_bundle,
    write_manifest,
)
from alterbute.bundle.engines import Fit

from alterbute_export.engine.build_job import BuildJob, BuiltPlan
from alterbute_export.engine.child import WORKER, run_job
from alterbute_export.engine.profiles import make_profiles
from alterbute_export.engine.recipe import BuilderOptions, Recipe
from alterbute_export.errors import BuildError
from alterbute_export.half.variant_file import VariantFile
from alterbute_export.half.variants import MODEL_GRAPHS, HalfVariant, add_variants, write_variants
from alterbute_export.packaging.atomic_folder import changed_bundle

Report: TypeAlias = Callable[[str, int, int], None]
"""Called with the name of the task, its step, and how many steps it has (0: unknown)."""

_GRAPH_ORDER: Final = MODEL_GRAPHS


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildResult:
    """Variants and plans of a recipe, by graph, and the manifest that lists them."""

    manifest: Manifest
    variants: dict[str, HalfVariant]
    plans: dict[str, BuiltPlan]


def build_engines(
    path: str | Path,
    recipe: Recipe,
    *,
    report: Report,
    measure: bool = True,
    graphs: Sequence[str] = _GRAPH_ORDER,
    worker: Sequence[str] = WORKER,
) -> BuildResult:
    """Build a recipe's engines into a bundle. An earlier build of the same recipe is replaced; a signature is dropped.

    Args:
        path: The bundle's folder. It is replaced in one step, when everything is built.
        recipe: The recipe.
        report: Called with the name of the task, its step, and how many steps it has (0: unknown).
        measure: Edit the sample photo first, keep operators that overflow there in fp32, and check the error.
        graphs: Names of the graphs to build plans of.
        worker: The command that builds one plan; the path of the job's file is appended.

    Raises:
        BuildError: this machine cannot build the recipe, or a build failed.
        PrecisionError: half precision loses too much on this bundle.
        BundleError: the bundle is damaged.
    """
    bundle = verify_bundle(path)
    check_machine(recipe, probe_driver())
    present_graphs = [graph for graph in graphs if graph in bundle.manifest.graphs]
    with changed_bundle(bundle.path) as folder:
        _remove_earlier_build(recipe, folder)
        report(f"convert graphs to {recipe.precision}", 0, 0)
        variants = write_variants(bundle, folder, recipe.precision, measure=measure)
        plans: dict[str, BuiltPlan] = {}
        engines: list[Engine] = []
        if recipe.product in ("tensorrt", "tensorrt_rtx"):
            (folder / recipe.name).mkdir()
            for graph in present_graphs:
                job = _make_job(bundle, folder, graph, recipe, recipe.product, variants[graph].plain)
                plans[graph] = run_job(job, partial(_report_graph, report, graph), worker=worker)
                engines.append(_describe_engine(folder, job, recipe, plans[graph]))
        report("describe", 0, 0)
        manifest = _write_manifest(bundle.manifest, folder, recipe, variants, engines)
    _write_layer_reports(bundle.path, recipe, plans)
    return BuildResult(manifest=manifest, variants=variants, plans=plans)


def _report_graph(report: Report, graph: str, phase: str, step: int, steps: int) -> None:
    report(f"{graph}: {phase}", step, steps)


def side_folder(bundle: Path) -> Path:
    """The folder of timing caches and layer reports, beside the bundle's folder because they are not shipped."""
    return bundle.resolve().with_name(f"{bundle.resolve().name}.build")


def check_machine(recipe: Recipe, driver: Driver) -> None:
    """Refuse a recipe that this machine cannot build.

    Raises:
        BuildError: the recipe is for TensorRT, whose builder times kernels on the GPU that it builds for, and this machine has none
            or another.
    """
    if recipe.product != "tensorrt":
        return
    capabilities = " or ".join(recipe.capabilities)
    if driver.gpu is None:
        raise BuildError(
            f"recipe {recipe.name} builds with tensorrt, and {driver.reason}",
            f"a GPU of compute capability {capabilities}",
            "run this on such a machine, or build a tensorrt_rtx recipe, which needs no GPU",
        )
    if driver.gpu.capability not in recipe.capabilities:
        raise BuildError(
            f"this machine's {driver.gpu.name} has compute capability {driver.gpu.capability}",
            f"{capabilities}, which recipe {recipe.name} is for",
            "choose the recipe of this GPU, or run this on another machine",
        )


def _make_job(
    bundle: Bundle, folder: Path, graph: str, recipe: Recipe, product: Product, variant: VariantFile
) -> BuildJob:
    settings, fit = _require_builder(recipe)
    cache = side_folder(bundle.path) / f"{recipe.name}.timing"
    if settings.timing_cache:
        cache.parent.mkdir(exist_ok=True)
    return BuildJob(
        product=product,
        graph=graph,
        source=str(folder / variant.file),
        output=str(folder / recipe.name / f"{graph}.plan"),
        precision=recipe.precision,
        fit=fit,
        builder=settings,
        profiles=make_profiles(bundle.manifest, graph, recipe),
        timing_cache=str(cache) if settings.timing_cache else None,
    )


def _describe_engine(folder: Path, job: BuildJob, recipe: Recipe, plan: BuiltPlan) -> Engine:
    """The manifest's entry of a plan."""
    gpu = probe_driver().gpu
    weights = (WEIGHTS_FILE, f"weights_{recipe.precision}.bin")
    return Engine(
        graph=job.graph,
        file=f"{recipe.name}/{job.graph}.plan",
        recipe=recipe.name,
        product=job.product,
        version=plan.version,
        platform=this_platform(),
        fit=job.fit,
        capabilities=recipe.capabilities,
        gpu=gpu.name if gpu and job.product == "tensorrt" else "",
        cuda=recipe.cuda,
        driver=recipe.driver,
        precision=recipe.precision,
        profiles=job.profiles,
        builder={field: getattr(job.builder, field) for field in BuilderOptions.__dataclass_fields__},
        source=Path(job.source).name,
        onnx=_hash_file(Path(job.source)),
        weights={name: _hash_file(folder / name) for name in weights if (folder / name).is_file()},
        timing_cache=_hash_file(Path(job.timing_cache)) if job.timing_cache else None,
        refit=job.builder.refit,
    )


def _write_manifest(
    manifest: Manifest, folder: Path, recipe: Recipe, variants: dict[str, HalfVariant], engines: list[Engine]
) -> Manifest:
    finished = replace(
        manifest,
        graphs=add_variants(manifest.graphs, recipe.precision, variants, _launch_shapes(recipe)),
        engines=(*(engine for engine in manifest.engines if engine.recipe != recipe.name), *engines),
        files=describe_files(folder),
    )
    write_manifest(folder, finished)
    return finished


def _launch_shapes(recipe: Recipe) -> tuple[LaunchShape, ...]:
    """The launch shapes of ONNX Runtime's CUDA variant; the buckets of a plan are in the plan's own entry."""
    if recipe.product != "onnxruntime-cuda":
        return ()
    return tuple(LaunchShape(slots=bucket.slots, rows=bucket.rows) for bucket in recipe.buckets)


def _remove_earlier_build(recipe: Recipe, folder: Path) -> None:
    """Delete an earlier build of the recipe: its plans, the variants and weights of its precision, and the signature."""
    shutil.rmtree(folder / recipe.name, ignore_errors=True)
    stale = [
        *folder.glob(f"*.{recipe.precision}.onnx"),
        *folder.glob(f"*.{recipe.precision}.*.onnx"),
        folder / f"weights_{recipe.precision}.bin",
        folder / "manifest.sig",
    ]
    for path in stale:
        path.unlink(missing_ok=True)


def _write_layer_reports(bundle: Path, recipe: Recipe, plans: dict[str, BuiltPlan]) -> None:
    """Write the inspector's report about every plan's layers beside the bundle, for people to read."""
    reports = {graph: plan.information for graph, plan in plans.items() if plan.information}
    if reports:
        folder = side_folder(bundle) / recipe.name
        folder.mkdir(parents=True, exist_ok=True)
        for graph, information in reports.items():
            (folder / f"{graph}.layers.json").write_text(information, encoding="utf-8")


def _require_builder(recipe: Recipe) -> tuple[BuilderOptions, Fit]:
    """The recipe's builder settings and fit, which every recipe with plans has."""
    if recipe.builder is None or recipe.fit is None:
        raise BuildError(f"recipe {recipe.name} has no builder", "one, for plans", "see engines/recipes")
    return recipe.builder, recipe.fit


def _hash_file(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()
