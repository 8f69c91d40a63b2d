"""Speed and parity of the product on this GPU beside torch, within a given number of minutes. Needs no network.

    python -m benchmarks.gpu.main --minutes 10 --bundle DIR --out results        # what fits into ten minutes
    python -m benchmarks.gpu.main --minutes 10 --bundle DIR --dry-run            # the plan, and what this machine lacks
    python -m benchmarks.gpu.main --smoke                                        # the program on a CPU with a tiny model

The stages run most important first, each in a process of its own with its own time limit. OUT/results.json is written after every case,
so that a kill loses one; OUT/report.md and OUT/report.png are made from it at the end, and by `--report OUT` at any time. One that differs
from fp32 by more than the limits is timed all the same, and marked. Weights are random: times depend on sizes only.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

sys.path.insert(0, str(Path(__file__).parents[2]))

from benchmarks.gpu.cases import SD15, SMOKE, model_folders
from benchmarks.gpu.gpu_machine import GpuMachine, probe_machine
from benchmarks.gpu.report import describe_results, draw_plot
from benchmarks.gpu.stage_plan import GpuJob, PlannedStage, Stage, describe_plan, make_plan
from benchmarks.gpu.stage_record import write_json
from benchmarks.gpu.stage_runner import run_plan
from benchmarks.gpu.stages import BUNDLE, list_stages

RESULTS_FILE: Final = "results.json"
_GOOD: Final = ("ok", "skipped")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; returns 0 if a stage ran, none failed, and the product is within the parity limits, else 1."""
    begin = time.monotonic()
    options = _parse_options(arguments)
    if options.report:
        _write_report(options.report)
        return 0
    machine = probe_machine(options.commit)
    job = make_job(options)
    stages = list_stages(has_bundle=bool(options.bundle), has_sdxl=bool(options.sdxl))
    names = [stage.name for stage in stages]
    unknown = set(options.only) - set(names)
    if unknown:
        raise SystemExit(f"--only names {', '.join(sorted(unknown))}; expected names of {', '.join(names)}")
    missing = find_missing(stages, machine, options.only, is_smoke=job.is_smoke, try_rtx=options.try_rtx)
    seconds = 60 * options.minutes
    plan = make_plan(stages, seconds, missing)
    print(_describe_machine(machine))
    print(describe_plan(plan, seconds), flush=True)
    if options.dry_run:
        return 0
    signal.signal(signal.SIGTERM, _stop)
    Path(job.out).mkdir(parents=True, exist_ok=True)
    return measure(plan, job, machine, seconds - (time.monotonic() - begin))


def measure(plan: Sequence[PlannedStage], job: GpuJob, machine: GpuMachine, seconds: float) -> int:
    """Run a plan and write its results and report; returns the exit code of `main`.

    Args:
        plan: The planned stages.
        job: What each stage is given; its folder `out` exists.
        machine: Facts about this machine.
        seconds: Seconds for the stages and the report.
    """
    out = Path(job.out)
    document: dict[str, Any] = {"machine": machine.as_json(), "minutes": round(seconds / 60, 2), "stages": {}}

    def save(entries: Mapping[str, Any]) -> None:
        write_json(out / RESULTS_FILE, _hide_paths({**document, "stages": entries}, job))

    def facts() -> dict[str, Any]:
        return {**machine.stage_facts(), "weights": job.weights}

    entries = run_plan(plan, job, seconds, facts, save)
    _write_report(out)
    statuses = [entry["status"] for entry in entries.values()]
    parity = entries.get("parity", {}).get("cases", {}).values()
    is_good = all(status in _GOOD for status in statuses) and all(case.get("passes", True) for case in parity)
    return 0 if is_good and "ok" in statuses else 1


def make_job(options: argparse.Namespace) -> GpuJob:
    """The job that the command's options describe; a bundle that was not given is to be made in the working folder."""
    work = options.work or Path(tempfile.mkdtemp(prefix="alterbute-gpu-"))
    work.mkdir(parents=True, exist_ok=True)
    checkpoint, bundle = model_folders(SMOKE if options.smoke else SD15, work)
    given = options.bundle
    return GpuJob(
        bundle=str((given or bundle).resolve()),
        sdxl=str(options.sdxl.resolve()) if options.sdxl else "",
        checkpoint=str(options.checkpoint.resolve()) if options.checkpoint else "" if given else str(checkpoint),
        work=str(work.resolve()),
        out=str((options.out or work / "results").resolve()),
        weights=options.weights,
        is_smoke=options.smoke,
    )


def find_missing(
    stages: Sequence[Stage], machine: GpuMachine, only: Sequence[str], *, is_smoke: bool, try_rtx: bool = False
) -> dict[str, str]:
    """Reason why a stage cannot run or was not asked for, by its name; those that can run are left out.

    Args:
        stages: The stages.
        machine: Facts about this machine.
        only: Names of the stages that were asked for; empty for all.
        is_smoke: Whether the CPU is measured.
        try_rtx: Whether TensorRT-RTX runs on a GPU that its release notes do not list.
    """
    missing = {}
    for stage in stages:
        reason = machine.missing.get(stage.contender, "")
        if stage.contender == "tensorrt_rtx" and try_rtx and "--try-rtx" in reason:
            reason = ""
        if is_smoke:
            reason = "" if stage.is_in_smoke else f"not part of the smoke{f'; {reason}' if reason else ''}"
        if only and stage.name not in only and stage.name != BUNDLE.name:
            reason = "not named by --only"
        if reason:
            missing[stage.name] = reason
    if all(stage.name in missing for stage in stages if stage.needs_bundle):
        missing[BUNDLE.name] = "no stage that needs it can run"
    return missing


def _hide_paths(document: dict[str, Any], job: GpuJob) -> Any:
    """The document with names in place of this machine's folders, which messages of errors contain: results are published."""
    folders = {"BUNDLE": job.bundle, "SDXL": job.sdxl, "CHECKPOINT": job.checkpoint, "OUT": job.out, "WORK": job.work}
    text = json.dumps(document)
    # The longest first: one folder may lie in another.
    for name, folder in sorted(folders.items(), key=lambda item: -len(item[1])):
        text = text.replace(json.dumps(folder)[1:-1], name) if folder else text
    return json.loads(text)


def _write_report(out: Path) -> None:
    document = json.loads((out / RESULTS_FILE).read_text(encoding="utf-8"))
    text = describe_results(document)
    (out / "report.md").write_text(text, encoding="utf-8")
    print(text)
    if not draw_plot(document, out / "report.png"):
        print("no plot: nothing to draw, or matplotlib is not installed")


def _describe_machine(machine: GpuMachine) -> str:
    gpu = machine.driver.gpu
    card = f"{gpu.name}, compute capability {gpu.capability}" if gpu else "no GPU"
    packages = ", ".join(f"{name} {number}" for name, number in machine.packages.items())
    lines = [
        f"machine   {machine.cpu}, {machine.num_cpus} CPUs, load {machine.load}; {card}; CUDA {machine.driver.cuda}"
    ]
    lines += [f"packages  {packages}"]
    lines += [f"lacks     {name}: {reason}" for name, reason in machine.missing.items()]
    return "\n".join(lines)


def _stop(*_: object) -> None:
    # The runner's `finally` then kills the process of the running stage.
    raise SystemExit("stopped by a signal; OUT/results.json has what was measured")


def _parse_options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--minutes", type=float, default=10.0, help="minutes for everything (default: 10)")
    parser.add_argument("--out", type=Path, help="folder of results.json, report.md, report.png and the stages' logs")
    parser.add_argument("--bundle", type=Path, help="bundle of SD1.5; without it, one of published size is made first")
    parser.add_argument("--sdxl", type=Path, help="bundle of SDXL; without it, one is made where the minutes allow it")
    parser.add_argument("--checkpoint", type=Path, help="checkpoint of --bundle, whose weights torch then loads")
    parser.add_argument("--weights", default="random", help="what the weights of --bundle are, for the report")
    parser.add_argument("--work", type=Path, help="folder that keeps what was made between runs")
    parser.add_argument("--only", type=_names, default=(), metavar="STAGES", help="measure only these: NAME,NAME")
    parser.add_argument("--commit", default="", help="the commit, for a copy of the tree outside a checkout")
    parser.add_argument(
        "--try-rtx", action="store_true", help="run tensorrt-rtx on a GPU that its release notes do not list"
    )
    parser.add_argument("--dry-run", action="store_true", help="print the plan and what this machine lacks")
    parser.add_argument("--smoke", action="store_true", help="run the program on the CPU with a tiny model")
    parser.add_argument("--report", type=Path, metavar="OUT", help="make the report of a folder of results again")
    return parser.parse_args(arguments)


def _names(text: str) -> tuple[str, ...]:
    return tuple(name for name in text.split(",") if name)


if __name__ == "__main__":
    sys.exit(main())
