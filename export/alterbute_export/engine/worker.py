"""The build process: builds one plan, so that a crash of the builder does not end the exporter.

It reads a `BuildJob` from a file, the only argument, and writes one JSON object per line to stdout: progress, and at the end `built`
or `error`. The library's own messages go to stderr. On SIGTERM the builder stops at its next step.
"""

from __future__ import annotations

import dataclasses
import json
import os
import resource
import signal
import sys
import time
from pathlib import Path
from threading import Event
from typing import Any

from alterbute.bundle import strict_json, typed_json
from alterbute.errors import AlterbuteError

from alterbute_export.engine import api
from alterbute_export.engine.audit import Audit, audit_network, check_audit, count_plan
from alterbute_export.engine.build_job import BuildJob, BuiltPlan
from alterbute_export.engine.module import BuilderModule, load_module
from alterbute_export.errors import BuildError


def main(path: str) -> int:
    """Build the job in a file.

    Returns:
        The exit code: 0 if the plan was built, else 1.
    """
    stop = Event()
    signal.signal(signal.SIGTERM, lambda number, frame: stop.set())
    # Ctrl-C reaches the whole process group; the parent decides whether this process ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        job = typed_json.build(BuildJob, strict_json.parse_json(Path(path).read_bytes()))
        built = build_plan(load_module(job.product), job, stop)
    except AlterbuteError as fault:
        _send(error=[fault.seen, fault.expected, fault.fix])
        return 1
    _send(built=dataclasses.asdict(built))
    return 0


def build_plan(trt: BuilderModule, job: BuildJob, stop: Event) -> BuiltPlan:
    """Build one plan and write it to the job's output.

    Args:
        trt: The builder module.
        job: The plan to build.
        stop: Cancels the build when it is set.

    Returns:
        Version, time, memory and layer types of the build.

    Raises:
        BuildError: the graph does not parse, a setting is refused, the build fails or is cancelled, or the types are wrong.
    """
    from alterbute_export.engine.monitor import make_monitor

    start = time.monotonic()
    logger = trt.Logger(trt.Logger.WARNING)
    builder = trt.Builder(logger)
    network = builder.create_network(0)
    # Referenced until the end: a parser does not keep its network alive, nor the network the parser's weights.
    parser = trt.OnnxParser(network, logger)
    _send(phase="parse", step=0, steps=0)
    _parse(parser, job)
    audit = audit_network(trt, network)
    check_audit(job.graph, job.precision, audit)
    config = builder.create_builder_config()
    _configure(trt, config, job)
    for profile in job.profiles:
        config.add_optimization_profile(_make_profile(builder, network, profile))
    monitor = make_monitor(trt, lambda phase, step, steps: _send(phase=phase, step=step, steps=steps), stop)
    config.progress_monitor = monitor
    cache = _set_timing_cache(config, job)
    plan = builder.build_serialized_network(network, config)
    if stop.is_set():
        raise BuildError("the build was cancelled", "a build that ends", "start it again")
    if plan is None:
        raise BuildError(
            f"{job.product} built no plan of graph {job.graph!r}", "a plan", "see the builder's messages above"
        )
    Path(job.output).write_bytes(memoryview(plan))  # type: ignore[arg-type]
    if cache is not None and job.timing_cache is not None:
        _replace_file(Path(job.timing_cache), bytes(memoryview(cache.serialize())))  # type: ignore[arg-type]
    memory, information = _inspect(trt, logger, job)
    return BuiltPlan(
        version=trt.__version__,
        seconds=round(time.monotonic() - start, 1),
        peak_rss_mib=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        audit=Audit(work=audit.work, layers=audit.layers, plan=count_plan(information) if information else {}),
        memory=memory,
        information=information,
    )


def _parse(parser: api.OnnxParser, job: BuildJob) -> None:
    data = Path(job.source).read_bytes()
    if job.builder.sanitize:
        from alterbute_export.engine.sanitize import fold_constants

        data = fold_constants(data, Path(job.source).parent)
    # The parser looks for external weights in the folder of this path.
    if parser.parse(data, job.source):
        return
    errors = [parser.get_error(index) for index in range(parser.num_errors)]
    reasons = [f"{error.node_operator()} {error.node_name()!r}: {error.desc().splitlines()[0]}" for error in errors]
    raise BuildError(
        f"{job.product} cannot parse graph {job.graph!r} ({'; '.join(reasons) or 'it gives no reason'})",
        "operators that this version supports",
        "export the bundle again with this version, or report the operator",
    )


def _configure(trt: BuilderModule, config: api.IBuilderConfig, job: BuildJob) -> None:
    settings = job.builder
    config.builder_optimization_level = settings.optimization_level
    config.max_aux_streams = settings.aux_streams
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, settings.workspace_mib << 20)
    if settings.tf32:
        config.set_flag(trt.BuilderFlag.TF32)
    else:
        config.clear_flag(trt.BuilderFlag.TF32)
    if settings.batch_invariant:
        config.set_flag(trt.BuilderFlag.DISTRIBUTIVE_INDEPENDENCE)
    if settings.refit == "identical":
        config.set_flag(trt.BuilderFlag.REFIT_IDENTICAL)
        config.set_flag(trt.BuilderFlag.STRIP_PLAN)
    if job.fit == "same_compute_capability":
        config.hardware_compatibility_level = trt.HardwareCompatibilityLevel.SAME_COMPUTE_CAPABILITY
    elif job.fit == "ampere_plus":
        config.hardware_compatibility_level = trt.HardwareCompatibilityLevel.AMPERE_PLUS


def _make_profile(builder: api.Builder, network: api.INetworkDefinition, profile: Any) -> api.IOptimizationProfile:
    optimization_profile = builder.create_optimization_profile()
    for index in range(network.num_inputs):
        name = network.get_input(index).name
        optimization_profile.set_shape(name, profile[name].min, profile[name].opt, profile[name].max)
    return optimization_profile


def _set_timing_cache(config: api.IBuilderConfig, job: BuildJob) -> api.ITimingCache | None:
    if job.timing_cache is None:
        return None
    path = Path(job.timing_cache)
    cache = config.create_timing_cache(path.read_bytes() if path.is_file() else b"")
    # A cache of another GPU or version cannot be used: it is ignored and overwritten.
    if not config.set_timing_cache(cache, False):
        cache = config.create_timing_cache(b"")
        config.set_timing_cache(cache, False)
    return config.get_timing_cache()


def _inspect(trt: BuilderModule, logger: Any, job: BuildJob) -> tuple[int | None, str | None]:
    """Scratch memory in bytes and layer report of the plan; None without a GPU to load it, or without its weights."""
    from alterbute.backends.cuda.driver import probe_driver

    if probe_driver().gpu is None or job.builder.refit != "none":
        return None, None
    engine = trt.Runtime(logger).deserialize_cuda_engine(Path(job.output).read_bytes())
    if engine is None:
        raise BuildError(
            f"the plan of graph {job.graph!r} does not load where it was built",
            "a plan that loads",
            "see the messages above",
        )
    return engine.device_memory_size_v2, engine.create_engine_inspector().get_engine_information(
        trt.LayerInformationFormat.JSON
    )


def _replace_file(path: Path, data: bytes) -> None:
    """Write a file atomically: other builds may read the timing cache at the same time."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}")
    temporary.write_bytes(data)
    os.replace(temporary, path)


def _send(**message: object) -> None:
    """Print one message for the parent process."""
    print(json.dumps(message), flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
