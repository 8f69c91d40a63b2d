"""A stage of the benchmark, the job that all stages share, and the plan: which stages fit the minutes, in the order of their worth."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from benchmarks.gpu.stage_record import StageRecord

RESERVE_S: Final = 5.0
"""Seconds kept at the end for the report."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuJob:
    """What every stage is given; it travels to a stage's process as JSON.

    Args:
        bundle: Folder of the measured bundle; a stage without `needs_bundle` makes it where it is missing.
        sdxl: Folder of a second bundle, of SDXL; "" without one.
        checkpoint: Folder of the checkpoint of `bundle`, for torch; "" without one.
        work: Folder for what a stage builds.
        out: Folder of the results.
        weights: What the weights of `bundle` are, for the report.
        is_smoke: Whether the CPU and a tiny model are measured, as a test of the program.
    """

    bundle: str
    sdxl: str
    checkpoint: str
    work: str
    out: str
    weights: str = "random"
    is_smoke: bool = False

    @property
    def backend(self) -> str:
        """Name of the product's measured backend."""
        return "onnxruntime" if self.is_smoke else "onnxruntime-cuda"

    def write(self, path: Path) -> None:
        """Write the job as JSON."""
        path.write_text(json.dumps(asdict(self)), encoding="utf-8")

    @classmethod
    def read(cls, path: Path) -> GpuJob:
        """Read a job from JSON."""
        return cls(**json.loads(path.read_text(encoding="utf-8")))


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """One question that a process of its own answers.

    Args:
        name: Short name, for `--only` and the results.
        measures: What its results are, in one sentence.
        seconds: Estimate of its seconds on an H100, start of the process included; a stage begins only if they are left.
        limit: Seconds after which its process is killed.
        run: A function of a module; it measures cases and stores each in the record.
        case_limit: Seconds after which one case is killed and left behind; None for no limit but the stage's.
        contender: What must be able to run here, a key of `GpuMachine.missing`; "" for a stage that runs anywhere.
        is_in_smoke: Whether it runs on a CPU with a tiny model.
        needs_bundle: Whether it is skipped where no bundle could be made.
    """

    name: str
    measures: str
    seconds: float
    limit: float
    run: Callable[[GpuJob, StageRecord], None]
    case_limit: float | None = None
    contender: str = ""
    is_in_smoke: bool = False
    needs_bundle: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedStage:
    """A stage of the plan.

    Args:
        stage: The stage.
        begin: Second at which it is expected to begin.
        missing: What it lacks on this machine; "" for nothing.
        reason: Why the plan leaves it out, `missing` or the time; "" where it is to run. Stages that end early can make room for it.
    """

    stage: Stage
    begin: float
    missing: str = ""
    reason: str = ""


def make_plan(stages: Sequence[Stage], seconds: float, missing: Mapping[str, str]) -> tuple[PlannedStage, ...]:
    """Plan the stages in their order: each runs if its estimate fits into what those before it leave.

    Args:
        stages: The stages, most important first.
        seconds: Seconds for all of them together, report included.
        missing: Reason why a stage cannot run at all, by its name.
    """
    begin, planned = 0.0, []
    for stage in stages:
        lacks = missing.get(stage.name, "")
        reason = lacks or no_time(stage, seconds - begin)
        planned.append(PlannedStage(stage=stage, begin=begin, missing=lacks, reason=reason))
        begin += 0 if reason else stage.seconds
    return tuple(planned)


def no_time(stage: Stage, left: float) -> str:
    """Reason why a stage does not fit into the seconds that are left, the report's included; "" if it does."""
    left = max(0.0, left - RESERVE_S)
    return "" if stage.seconds <= left else f"it takes about {stage.seconds:.0f} s, and {left:.0f} s are left"


def describe_plan(plan: Sequence[PlannedStage], seconds: float) -> str:
    """The plan as text, with a line per stage."""
    lines = [f"plan for {seconds / 60:.1f} minutes; seconds: begin, estimate, limit"]
    for planned in plan:
        stage = planned.stage
        begin = "-" if planned.reason else f"{planned.begin:.0f}"
        said = f"SKIPPED: {planned.reason}" if planned.reason else stage.measures
        lines.append(f"{begin:>5} {stage.seconds:>5.0f} {stage.limit:>5.0f}  {stage.name:<14} {said}")
    return "\n".join(lines)
