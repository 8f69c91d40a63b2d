"""Step-level batching under load: open-loop Poisson arrivals, mixed steps and guidance, three admission policies.

    python -m benchmarks.serving.serving --out benchmarks/results/serving.json --plot benchmarks/results/serving.png

Three policies (`alterbute.serve.scheduler.admission.Admission`) are compared on the same engines and the same arrivals:

    step     an image enters at any step with a free slot, in the order of the server's scheduler (the server's policy)
    request  up to `--slots` images enter an empty lane, and are returned when all are done (request-level batching)
    single   one image at a time

The capacity (images per second of policy `step` in a burst) is measured first. In each round the three policies then play the same
trace of arrivals, at the share `--load` of the capacity. Before times are reported, each request's images are checked to be equal
under all policies.

On a shared machine, wall time includes other processes. `--clock cpu` counts this process's CPU seconds instead and skips idle time;
arrivals, waiting times and latencies all follow that clock. `--clock replay` measures each launch a few times and then replays its
time (replay.py), so that the scheduler serves thousands of requests; images are not compared then.
"""

from __future__ import annotations

import argparse
import hashlib
import random
import threading
import time
from collections.abc import Callable, Sequence
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
from alterbute.images import load_mask, load_photo, load_region
from alterbute.request import EditRequest
from alterbute.serve.scheduler import server_request as server_request_module
from alterbute.serve.scheduler import service as service_module
from alterbute.serve.scheduler import stages as stages_module
from alterbute.serve.scheduler import worker as worker_module
from alterbute.serve.scheduler.admission import Admission
from alterbute.serve.scheduler.observer import Observer
from alterbute.serve.scheduler.server_request import RequestSpec, ServerRequest, ServerResult
from alterbute.serve.scheduler.service import Service

from benchmarks.common.machine import load_average, machine_facts
from benchmarks.common.results_file import write_results
from benchmarks.serving.figures import STEPS, Record, compare, draw_plot, summarise
from benchmarks.serving.replay import Inline, ReplayBackend, ReplayClock

GUIDANCE: Final = (1.0, 1.5)
ADMISSIONS: Final[tuple[Admission, ...]] = ("step", "request", "single")
PATIENCE_S: Final = 3600.0
"""Deadline of every request, so late that no request misses it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """One request of a trace: arrival time in seconds, request, and the columns by which its photo is rolled.

    The roll makes photos differ, so that no encoding is found in the cache.
    """

    at_s: float
    request: EditRequest
    roll: int


class MonotonicClock:
    """Replacement of the module `time` in the service: wall time, or CPU time of this process.

    Args:
        is_cpu: Whether the clock counts CPU seconds of this process instead of wall seconds.
    """

    def __init__(self, is_cpu: bool) -> None:
        self._is_cpu, self._skipped_s = is_cpu, 0.0

    def monotonic(self) -> float:
        """Current time of the clock in seconds."""
        return time.process_time() + self._skipped_s if self._is_cpu else time.monotonic()

    perf_counter = monotonic

    def wait_until(self, at_s: float, is_idle: Callable[[], bool]) -> None:
        """Wait until the clock reaches `at_s`; if the service is idle, a CPU clock is set to `at_s`."""
        while (left_s := at_s - self.monotonic()) > 0:
            if self._is_cpu and is_idle():
                self._skipped_s += left_s
            time.sleep(0.002 if self._is_cpu else left_s)

    def release(self, next_s: float) -> None:
        """Do nothing: this clock does not depend on arrivals."""


class LaunchCounter(Observer):
    """Observer that counts launches and the images in them."""

    def __init__(self) -> None:
        self.launches = self.images = 0

    def on_launch(self, seconds: float, slots: int, rows: int) -> None:
        """Count a launch and its images.

        Args:
            seconds: Duration of the launch.
            slots: Images in the launch.
            rows: UNet rows in the launch.
        """
        self.launches += 1
        self.images += slots


class AdmissionContender:
    """A service with one admission policy, on an editor of its own."""

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
        self.counter, self._clock = LaunchCounter(), clock
        self.service = Service(
            [editor], pool, slots=slots, max_queue=100_000, admission=admission, stretch=stretch, observer=self.counter
        )
        self.photo = load_photo(bundle.read("sample/photo.png"))
        self.mask = load_mask(bundle.read("sample/mask.png"), self.photo)

    def submit(self, arrival: Arrival) -> ServerRequest:
        """Submit a request for the rolled sample photo."""
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
        """Submit all requests at their arrival times (open loop).

        Returns:
            One record per request, and the seconds from the start until the last reply.
        """
        start, num_done = self._clock.monotonic(), threading.Semaphore(0)
        records: dict[int, Record] = {}

        def on_done(index: int, arrival: Arrival, future: Future[ServerResult]) -> None:
            latency_s = self._clock.monotonic() - start - arrival.at_s
            result = future.result()
            digest = hashlib.sha256(result.edits[0].photo.pixels.tobytes()).hexdigest()[:16]
            steps = arrival.request.steps or 0
            records[index] = Record(steps=steps, latency_s=latency_s, queue_s=result.queue_s, digest=digest)
            num_done.release()

        for index, arrival in enumerate(trace):
            self._clock.wait_until(start + arrival.at_s, lambda: self.service.num_accepted == 0)
            server_request = self.submit(arrival)
            server_request.future.add_done_callback(partial(on_done, index, arrival))
            self._clock.release(start + trace[index + 1].at_s if index + 1 < len(trace) else float("inf"))
        for _ in trace:
            num_done.acquire()
        return [records[index] for index in range(len(trace))], self._clock.monotonic() - start


def draw_trace(count: int, rate: float, generator: random.Random) -> list[Arrival]:
    """Draw Poisson arrivals; steps and guidance have equal shares, so that traces differ only in order and gaps.

    Args:
        count: Number of requests.
        rate: Requests per second.
        generator: Generator of random numbers.
    """
    kinds = [(STEPS[index % 3], GUIDANCE[index // 3 % 2]) for index in range(count)]
    generator.shuffle(kinds)
    now, trace = 0.0, []
    for steps, guidance in kinds:
        now += generator.expovariate(rate)
        request = EditRequest(prompt="color: red", steps=steps, guidance=guidance, seed=generator.getrandbits(32))
        trace.append(Arrival(at_s=now, request=request, roll=generator.randrange(160)))
    return trace


def main() -> None:
    """Measure the three policies, and write the result file and the plot."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, default=None, help="bundle folder; default: the demo bundle")
    parser.add_argument("--load", type=float, default=0.8, help="arrival rate as a share of the measured capacity")
    parser.add_argument("--requests", type=int, default=150, help="requests per round and policy")
    parser.add_argument("--rounds", type=int, default=3, help="traces, each played with every policy")
    parser.add_argument("--burst", type=int, default=60, help="requests of the burst that measures the capacity")
    parser.add_argument("--slots", type=int, default=4, help="maximum number of images that are denoised together")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads of each backend")
    parser.add_argument(
        "--stretch", type=float, default=1.5, help="a request is overtaken until it waited this many times its own work"
    )
    parser.add_argument(
        "--deadline", type=float, default=6.0, help="latency limit in multiples of the mean time of a single request"
    )
    parser.add_argument("--clock", choices=("wall", "cpu", "replay"), default="wall", help="see above")
    parser.add_argument("--seed", type=int, default=0, help="seed of the arrivals")
    parser.add_argument("--out", type=Path, default=None, help="result file (JSON); default: print only")
    parser.add_argument("--plot", type=Path, default=None, help="path of the plot (PNG)")
    options = parser.parse_args()

    generator = random.Random(options.seed)
    clock = ReplayClock() if options.clock == "replay" else MonotonicClock(options.clock == "cpu")
    for module in (stages_module, worker_module, service_module, server_request_module):
        module.time = clock  # type: ignore[attr-defined]  # replaces the imported module `time`
    launch_s: dict[tuple[str, int], float] = {}
    bundle = open_bundle(options.bundle or default_bundle_path())
    records: dict[str, list[Record]] = {name: [] for name in ADMISSIONS}
    makespan = dict.fromkeys(ADMISSIONS, 0.0)
    launches, images = dict.fromkeys(ADMISSIONS, 0), dict.fromkeys(ADMISSIONS, 0)
    load_averages = []

    def open_editor() -> Editor:
        backend = open_backend("onnxruntime", bundle, threads=options.threads)
        if isinstance(clock, ReplayClock):
            return Editor(bundle, slots=options.slots, backend=ReplayBackend(backend, clock, launch_s))
        return Editor(bundle, slots=options.slots, backend=backend)

    with Inline() if options.clock == "replay" else ThreadPoolExecutor(2) as pool:
        contenders = {
            name: AdmissionContender(
                bundle, name, pool, clock, open_editor(), slots=options.slots, stretch=options.stretch
            )
            for name in ADMISSIONS
        }
        for contender in contenders.values():
            contender.play(draw_trace(6, 1000.0, generator))  # loads engines; the replay clock measures launches
        burst = draw_trace(options.burst, 1000.0, generator)
        capacity = len(burst) / contenders["step"].play(burst)[1]
        single_s = [
            contenders["single"].play([arrival])[0][0].latency_s for arrival in draw_trace(6, 1000.0, generator)
        ]
        for number in range(options.rounds):
            trace = draw_trace(options.requests, options.load * capacity, generator)
            for name in ADMISSIONS[number % 3 :] + ADMISSIONS[: number % 3]:
                load_averages.append(load_average())
                counter = contenders[name].counter
                before = counter.launches, counter.images
                new_records, seconds = contenders[name].play(trace)
                launches[name] += counter.launches - before[0]
                images[name] += counter.images - before[1]
                records[name] += new_records
                makespan[name] += seconds
                print(
                    f"round {number + 1} {name}: {seconds:.0f} s, p50 {np.median([record.latency_s for record in new_records]):.2f} s",
                    flush=True,
                )
        for name in ADMISSIONS[1:]:
            differing = sum(
                record.digest != reference.digest
                for reference, record in zip(records["step"], records[name], strict=True)
            )
            if differing and options.clock != "replay":
                raise SystemExit(
                    f"{differing} images differ between the policies step and {name}; expected equal images"
                )
        for contender in contenders.values():
            contender.service.close()
    deadline_s = options.deadline * float(np.mean(single_s))
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
            "alone_mean_s": round(float(np.mean(single_s)), 4),
            "deadline_s": round(deadline_s, 3),
            "steps": STEPS,
            "guidance": GUIDANCE,
            "slots": options.slots,
            "threads": options.threads,
            "stretch": options.stretch,
            "rounds": options.rounds,
            "images_identical_across_contenders": options.clock != "replay",
            "replayed_launch_s": {
                f"{graph} {rows}": round(seconds, 5) for (graph, rows), seconds in sorted(launch_s.items())
            },
        },
        "load_average_before_each_run": load_averages,
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
