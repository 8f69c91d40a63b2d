"""Step-level batching under load: open-loop Poisson arrivals, mixed steps and guidance, three kinds of admission.

    python -m benchmarks.serving.serving --out benchmarks/results/serving.json --plot benchmarks/results/serving.png

Three ways to admit a waiting image (`alterbute.serve.scheduler.admission.Admission`), on the same engines and the same arrivals:

    step     at any step with a free slot, the shortest that have waited long enough first (what the server does)
    request  up to `--slots` images into an empty lane, whose results are given when all are done (request-level batching)
    single   one image at a time

The capacity is measured first; then the three take turns, round by round, on one trace of arrivals at `--load` of it.
Every image is compared across the three before times are reported: same request, same bytes.

On a shared machine, wall time measures other processes too. `--clock cpu` counts the seconds of CPU that this process
got instead, and skips the time in which it has nothing to do: arrivals, waiting and latencies all follow that clock. `--clock replay`
times each launch once and then replays it (replay.py): the real scheduler on thousands of requests; images are not compared then.
"""

from __future__ import annotations

import argparse
import hashlib
import random
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np
from alterbute import Editor
from alterbute.backends import open_backend
from alterbute.bundle import Bundle, default_bundle_path, open_bundle
from alterbute.denoise.plan import make_plan
from alterbute.images import load_mask, load_photo
from alterbute.images.region import load_region
from alterbute.request import EditRequest
from alterbute.serve.scheduler import server_request as serve_ticket
from alterbute.serve.scheduler import service as serve_service
from alterbute.serve.scheduler import stages as serve_around
from alterbute.serve.scheduler import worker as serve_device
from alterbute.serve.scheduler.admission import Admission
from alterbute.serve.scheduler.observer import Observer
from alterbute.serve.scheduler.server_request import RequestSpec, ServerRequest, ServerResult
from alterbute.serve.scheduler.service import Service

from benchmarks.common.machine import load_average, machine_facts
from benchmarks.common.results_file import write_results
from benchmarks.serving.replay import Inline, ReplayBackend, ReplayClock

STEPS: Final = (8, 20, 40)
GUIDANCE: Final = (1.0, 1.5)
ADMISSIONS: Final[tuple[Admission, ...]] = ("step", "request", "single")
PATIENCE_S: Final = 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """One request of a trace: arrival time, request, and how far its photo is rolled, so that no encoding is cached."""

    at_s: float
    request: EditRequest
    roll: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """Result of a request: steps, latency, waiting time and a digest of its image."""

    steps: int
    latency_s: float
    queue_s: float
    digest: str


class MonotonicClock:
    """Stands in for the module `time` in the service.

    Args:
        is_cpu: Whether CPU seconds of this process count; else those on the wall.
    """

    def __init__(self, is_cpu: bool) -> None:
        self._is_cpu, self._skipped_s = is_cpu, 0.0

    def monotonic(self) -> float:
        return time.process_time() + self._skipped_s if self._is_cpu else time.monotonic()

    perf_counter = monotonic

    def wait_until(self, at_s: float, is_idle: Callable[[], bool]) -> None:
        """Wait until a time; while the service is idle, CPU time is skipped."""
        while (left_s := at_s - self.monotonic()) > 0:
            if self._is_cpu and is_idle():
                self._skipped_s += left_s
            time.sleep(0.002 if self._is_cpu else left_s)

    def release(self, next_s: float) -> None:
        """Nothing waits for the next arrival."""


class Load(Observer):
    """Counts launches and the images in them."""

    def __init__(self) -> None:
        self.launches = self.images = 0

    def on_launch(self, seconds: float, slots: int, rows: int) -> None:
        """Count a launch.

        Args:
            seconds: Duration of the launch.
            slots: Images in the launch.
            rows: UNet rows in the launch.
        """
        self.launches += 1
        self.images += slots


class AdmissionContender:
    """A service with one admission, on engines of its own."""

    def __init__(
        self,
        bundle: Bundle,
        admission: Admission,
        pool: Executor,
        clock: MonotonicClock | ReplayClock,
        editor: Editor,
        *,
        slots: int,
        stretch: float,
    ) -> None:
        self.load, self._clock = Load(), clock
        self.service = Service(
            [editor], pool, slots=slots, max_queue=100_000, admission=admission, stretch=stretch, observer=self.load
        )
        self.photo = load_photo(bundle.read("sample/photo.png"))
        self.mask = load_mask(bundle.read("sample/mask.png"), self.photo)

    def submit(self, arrival: Arrival) -> ServerRequest:
        photo = load_photo(np.roll(self.photo.pixels, arrival.roll, axis=1))
        plan = make_plan(arrival.request, self.service.editor.manifest, seed=0, image=0)
        return self.service.submit(
            RequestSpec(
                photo=photo,
                region=load_region(self.mask, photo),
                reference=None,
                requests=(arrival.request,),
                rows=sum(len(rows) for rows in plan.rows),
                steps=plan.steps,
                deadline_s=self._clock.monotonic() + PATIENCE_S,
            )
        )

    def play(self, trace: Sequence[Arrival]) -> tuple[list[Record], float]:
        """Submit all requests at their arrival times (open loop); returns a record per request, and the makespan in seconds."""
        start, done = self._clock.monotonic(), threading.Semaphore(0)
        records: dict[int, Record] = {}

        def on_done(index: int, arrival: Arrival, future: Future[ServerResult]) -> None:
            latency_s = self._clock.monotonic() - start - arrival.at_s
            served = future.result()
            digest = hashlib.sha256(served.edits[0].photo.pixels.tobytes()).hexdigest()[:16]
            steps = arrival.request.steps or 0
            records[index] = Record(steps=steps, latency_s=latency_s, queue_s=served.queue_s, digest=digest)
            done.release()

        for index, arrival in enumerate(trace):
            self._clock.wait_until(start + arrival.at_s, lambda: self.service.num_accepted == 0)
            server_request = self.submit(arrival)
            server_request.future.add_done_callback(partial(on_done, index, arrival))
            self._clock.release(start + trace[index + 1].at_s if index + 1 < len(trace) else float("inf"))
        for _ in trace:
            done.acquire()
        return [records[index] for index in range(len(trace))], self._clock.monotonic() - start


def draw_trace(count: int, rate: float, generator: random.Random) -> list[Arrival]:
    """Draw Poisson arrivals with step counts and guidance in equal shares, so that traces differ in order and gaps only.

    Args:
        count: Number of requests.
        rate: Requests per second.
        generator: Random numbers.
    """
    kinds = [(STEPS[index % 3], GUIDANCE[index // 3 % 2]) for index in range(count)]
    generator.shuffle(kinds)
    now, trace = 0.0, []
    for steps, guidance in kinds:
        now += generator.expovariate(rate)
        request = EditRequest(prompt="color: red", steps=steps, guidance=guidance, seed=generator.getrandbits(32))
        trace.append(Arrival(at_s=now, request=request, roll=generator.randrange(160)))
    return trace


def percentiles(values: Sequence[float]) -> dict[str, float]:
    """p50, p90, p99 and the mean, in seconds."""
    named = {f"p{rank}": float(np.percentile(values, rank)) for rank in (50, 90, 99)}
    return {name: round(value, 4) for name, value in {**named, "mean": float(np.mean(values))}.items()}


def summarise(
    records: Sequence[Record], makespan_s: float, deadline_s: float, images_per_launch: float
) -> dict[str, object]:
    """The figures of one contender over all rounds.

    Args:
        records: One record per request.
        makespan_s: Seconds from the first arrival to the last reply.
        deadline_s: Latency that counts as late.
        images_per_launch: Mean batch size.
    """
    latency = [record.latency_s for record in records]
    return {
        "requests": len(records),
        "throughput_per_s": round(len(records) / makespan_s, 4),
        "goodput_per_s": round(sum(value <= deadline_s for value in latency) / makespan_s, 4),
        "within_deadline": round(sum(value <= deadline_s for value in latency) / len(records), 4),
        "latency_s": percentiles(latency),
        "queue_s": percentiles([record.queue_s for record in records]),
        "latency_by_steps_s": {
            str(steps): percentiles([record.latency_s for record in records if record.steps == steps])
            for steps in STEPS
        },
        "images_per_launch": round(images_per_launch, 3),
    }


def compare(summaries: Mapping[Admission, dict[str, object]]) -> dict[str, float]:
    """Step-level over request-level: below 1 is better, except for throughput."""
    step, request = summaries["step"], summaries["request"]

    def ratio(*path: str) -> float:
        values: list[object] = [step, request]
        for key in path:
            values = [value[key] for value in values if isinstance(value, dict)]
        return round(float(str(values[0])) / float(str(values[1])), 3)

    return {
        "median": ratio("latency_s", "p50"),
        "p99": ratio("latency_s", "p99"),
        "p99_of_8_steps": ratio("latency_by_steps_s", "8", "p99"),
        "throughput": ratio("throughput_per_s"),
        "goodput": ratio("goodput_per_s"),
    }


def draw_plot(path: Path, latencies: dict[str, list[Record]], title: str) -> None:
    """Plot the share of requests that were done within a time: all of them, and those of 8 steps.

    Args:
        path: The picture.
        latencies: Latencies in seconds by contender.
        title: Title of the plot.
    """
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(10, 4), sharey=True)
    for axis, steps in zip(axes, (None, STEPS[0]), strict=True):
        for name, records in latencies.items():
            values = np.sort([record.latency_s for record in records if steps in (None, record.steps)])
            axis.plot(values, np.arange(1, len(values) + 1) / len(values), label=name)
        axis.set_xscale("log")
        axis.set_xlabel("latency, s")
        axis.set_title("all requests" if steps is None else f"requests of {steps} steps")
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("share of requests done")
    axes[0].legend()
    figure.suptitle(title)
    figure.tight_layout()
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, default=None)
    parser.add_argument("--load", type=float, default=0.8, help="share of the measured capacity")
    parser.add_argument("--requests", type=int, default=150, help="per round and contender")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--burst", type=int, default=60, help="requests at once that the capacity is measured with")
    parser.add_argument("--slots", type=int, default=4)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--stretch", type=float, default=1.5)
    parser.add_argument("--deadline", type=float, default=6.0, help="in mean times of a request that is alone")
    parser.add_argument("--clock", choices=("wall", "cpu", "replay"), default="wall")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=None)
    parser.add_argument("--plot", type=Path, default=None)
    options = parser.parse_args()

    generator = random.Random(options.seed)
    clock = ReplayClock() if options.clock == "replay" else MonotonicClock(options.clock == "cpu")
    for module in (serve_around, serve_device, serve_service, serve_ticket):
        module.time = clock  # type: ignore[attr-defined]
    replayed: dict[tuple[str, int], float] = {}
    bundle = open_bundle(options.bundle or default_bundle_path())
    records: dict[str, list[Record]] = {name: [] for name in ADMISSIONS}
    makespan = dict.fromkeys(ADMISSIONS, 0.0)
    launches, images = dict.fromkeys(ADMISSIONS, 0), dict.fromkeys(ADMISSIONS, 0)
    loads = []

    def open_editor() -> Editor:
        backend = open_backend("onnxruntime", bundle, threads=options.threads)
        if isinstance(clock, ReplayClock):
            return Editor(bundle, slots=options.slots, backend=ReplayBackend(backend, clock, replayed))
        return Editor(bundle, slots=options.slots, backend=backend)

    with Inline() if options.clock == "replay" else ThreadPoolExecutor(2) as pool:
        contenders = {
            name: AdmissionContender(
                bundle, name, pool, clock, open_editor(), slots=options.slots, stretch=options.stretch
            )
            for name in ADMISSIONS
        }
        for contender in contenders.values():
            contender.play(draw_trace(6, 1000.0, generator))  # engines load, launches are measured
        burst = draw_trace(options.burst, 1000.0, generator)
        capacity = len(burst) / contenders["step"].play(burst)[1]
        alone = [contenders["single"].play([one])[0][0].latency_s for one in draw_trace(6, 1000.0, generator)]
        for number in range(options.rounds):
            trace = draw_trace(options.requests, options.load * capacity, generator)
            turn = list(ADMISSIONS[number % 3 :] + ADMISSIONS[: number % 3])
            for name in turn:
                loads.append(load_average())
                counted = contenders[name].load
                before = counted.launches, counted.images
                found, seconds = contenders[name].play(trace)
                launches[name] += counted.launches - before[0]
                images[name] += counted.images - before[1]
                records[name] += found
                makespan[name] += seconds
                print(
                    f"round {number + 1} {name}: {seconds:.0f} s, p50 {np.median([one.latency_s for one in found]):.2f} s",
                    flush=True,
                )
        for name in ADMISSIONS[1:]:
            differing = sum(
                mine.digest != other.digest for mine, other in zip(records["step"], records[name], strict=True)
            )
            if differing and options.clock != "replay":
                raise SystemExit(f"{differing} images differ between step and {name}: no time is worth reading")
        for contender in contenders.values():
            contender.service.close()
    deadline_s = options.deadline * float(np.mean(alone))
    summaries = {
        name: summarise(records[name], makespan[name], deadline_s, images[name] / launches[name]) for name in ADMISSIONS
    }
    report = {
        "step_over_request": compare(summaries),
        "contenders": summaries,
        "setup": {
            "bundle": bundle.manifest.name,
            "load": options.load,
            "clock": options.clock,
            "capacity_per_s": round(capacity, 4),
            "alone_mean_s": round(float(np.mean(alone)), 4),
            "deadline_s": round(deadline_s, 3),
            "steps": STEPS,
            "guidance": GUIDANCE,
            "slots": options.slots,
            "threads": options.threads,
            "stretch": options.stretch,
            "rounds": options.rounds,
            "images_identical_across_contenders": options.clock != "replay",
            "replayed_launch_s": {
                f"{graph} {rows}": round(seconds, 5) for (graph, rows), seconds in sorted(replayed.items())
            },
        },
        "load_average_before_each_run": loads,
        "machine": machine_facts("onnxruntime", "numpy", "pillow"),
    }
    write_results(options.out, report)
    if options.plot:
        draw_plot(
            options.plot,
            records,
            f"{bundle.manifest.name} at {options.load:.0%} load, {options.slots} slots, mixed steps {STEPS}",
        )


if __name__ == "__main__":
    main()
