"""Building a recipe: typed variants, plans and manifest entries, all of them or none."""

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
    Manifest,
    Product,
    describe_files,
    verify_bundle,
    write_manifest,
)
from alterbute.bundle.engines import Fit

from alterbute_export.engine.build_job import BuildJob, Built
from alterbute_export.engine.child import WORKER, run_job
from alterbute_export.engine.profiles import make_profiles
from alterbute_export.engine.recipe import BuilderOptions, Recipe
from alterbute_export.errors import BuildError
from alterbute_export.half.variants import TYPED_GRAPHS, HalfVariant, list_variants, write_variants
from alterbute_export.packaging.atomic_folder import changed_bundle

Report: TypeAlias = Callable[[str, int, int], None]
"""Called with what is being done, its step, and how many steps it has (0: unknown)."""

_GRAPH_ORDER: Final = TYPED_GRAPHS


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildResult:
    """What was built: variants and plans by graph, and the manifest that lists them."""

    manifest: Manifest
    variants: dict[str, HalfVariant]
    built: dict[str, Built]


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
        path: The bundle's folder. It changes when everything is built, in one step.
        recipe: What to build.
        report: Told about progress.
        measure: As of `write_variants`.
        graphs: The graphs to build; all that a GPU runs when left out.
        worker: As of `run_job`.

    Raises:
        BuildError: this machine cannot build the recipe, or a build failed.
        PrecisionError: half precision loses too much on this bundle.
        BundleError: the bundle is damaged.
    """
    bundle = verify_bundle(path)
    check_machine(recipe, probe_driver())
    wanted = [graph for graph in graphs if graph in bundle.manifest.graphs]
    with changed_bundle(bundle.path) as folder:
        _forget(bundle, recipe, folder)
        report(f"type graphs as {recipe.precision}", 0, 0)
        variants = write_variants(bundle, folder, recipe.precision, measure=measure)
        built: dict[str, Built] = {}
        engines: list[Engine] = []
        if recipe.product != "onnxruntime":
            (folder / recipe.name).mkdir()
            for graph in wanted:
                job = _make_job(bundle, folder, graph, recipe, recipe.product, variants[graph])
                built[graph] = run_job(job, partial(_report_graph, report, graph), worker=worker)
                engines.append(_describe(folder, job, recipe, built[graph]))
        report("describe", 0, 0)
        manifest = _finish(bundle.manifest, folder, recipe, variants, engines)
    _keep_reports(bundle.path, recipe, built)
    return BuildResult(manifest=manifest, variants=variants, built=built)


def _report_graph(report: Report, graph: str, phase: str, step: int, steps: int) -> None:
    report(f"{graph}: {phase}", step, steps)


def side_folder(bundle: Path) -> Path:
    """Where timing caches and layer reports are kept: beside the bundle, because neither is shipped."""
    return bundle.resolve().with_name(f"{bundle.resolve().name}.build")


def check_machine(recipe: Recipe, driver: Driver) -> None:
    """Refuse a recipe that this machine cannot build.

    Raises:
        BuildError: TensorRT's builder times kernels on the GPU that it builds for; there is none, or another.
    """
    if recipe.product != "tensorrt":
        return
    wanted = " or ".join(recipe.capabilities)
    if driver.gpu is None:
        raise BuildError(
            f"recipe {recipe.name} builds with tensorrt, and {driver.reason}",
            f"a GPU of compute capability {wanted}",
            "run this on such a machine, or build a tensorrt_rtx recipe, which needs no GPU",
        )
    if driver.gpu.capability not in recipe.capabilities:
        raise BuildError(
            f"this machine's {driver.gpu.name} has compute capability {driver.gpu.capability}",
            f"{wanted}, which recipe {recipe.name} is for",
            "choose the recipe of this GPU, or run this on another machine",
        )


def _make_job(
    bundle: Bundle, folder: Path, graph: str, recipe: Recipe, product: Product, variant: HalfVariant
) -> BuildJob:
    settings, fit = _settings(recipe)
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


def _describe(folder: Path, job: BuildJob, recipe: Recipe, built: Built) -> Engine:
    gpu = probe_driver().gpu
    weights = (WEIGHTS_FILE, f"weights_{recipe.precision}.bin")
    return Engine(
        graph=job.graph,
        file=f"{recipe.name}/{job.graph}.plan",
        recipe=recipe.name,
        product=job.product,
        version=built.version,
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
        onnx=_hash(Path(job.source)),
        weights={name: _hash(folder / name) for name in weights if (folder / name).is_file()},
        timing_cache=_hash(Path(job.timing_cache)) if job.timing_cache else None,
        refit=job.builder.refit,
    )


def _finish(
    manifest: Manifest, folder: Path, recipe: Recipe, variants: dict[str, HalfVariant], engines: list[Engine]
) -> Manifest:
    finished = replace(
        manifest,
        graphs=list_variants(manifest.graphs, recipe.precision, variants),
        engines=(*(engine for engine in manifest.engines if engine.recipe != recipe.name), *engines),
        files=describe_files(folder),
    )
    write_manifest(folder, finished)
    return finished


def _forget(bundle: Bundle, recipe: Recipe, folder: Path) -> None:
    """Take an earlier build out of the copy: the recipe's plans, files that are written anew, and the old signature."""
    shutil.rmtree(folder / recipe.name, ignore_errors=True)
    stale = [
        *folder.glob(f"*.{recipe.precision}.onnx"),
        folder / f"weights_{recipe.precision}.bin",
        folder / "manifest.sig",
    ]
    for path in stale:
        path.unlink(missing_ok=True)


def _keep_reports(bundle: Path, recipe: Recipe, built: dict[str, Built]) -> None:
    """The inspector's reports, for people: what every layer of every plan became."""
    told = {graph: result.information for graph, result in built.items() if result.information}
    if told:
        folder = side_folder(bundle) / recipe.name
        folder.mkdir(parents=True, exist_ok=True)
        for graph, information in told.items():
            (folder / f"{graph}.layers.json").write_text(information, encoding="utf-8")


def _settings(recipe: Recipe) -> tuple[BuilderOptions, Fit]:
    if recipe.builder is None or recipe.fit is None:
        raise BuildError(f"recipe {recipe.name} has no builder", "one, for plans", "see engines/recipes")
    return recipe.builder, recipe.fit


def _hash(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()
