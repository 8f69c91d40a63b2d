"""The worker: the thread that owns one device and runs everything on it.

Between two launches of the step graph it removes requests that have ended, admits the next ones, and does a limited share of
encoding and decoding, so that neither the images in the lane nor those before and after it wait for ever.
"""

from __future__ import annotations

import itertools
import logging
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor
from threading import Condition, Thread
from typing import Final

from alterbute.editor import Editor
from alterbute.errors import AlterbuteError, DeviceError, EngineError, OverloadedError
from alterbute.serve.scheduler.admission import Admission, LaunchCost, priority
from alterbute.serve.scheduler.observer import Observer
from alterbute.serve.scheduler.queues import Queues, ScheduledRequest
from alterbute.serve.scheduler.server_request import ServerRequest
from alterbute.serve.scheduler.stages import Stages, to_project_error
from alterbute.subject import PreparedPhoto

_logger = logging.getLogger(__name__)

# Time that encoding and decoding may take between two launches, as a share of a launch; at least one piece of work is done.
_STAGES_SHARE: Final = 0.5


class Worker:
    """The thread that owns an editor's engines and lane.

    Args:
        editor: The editor, for this worker's use alone.
        pool: Threads for work that needs no device.
        slots: Images in the lane at most.
        admission: When a waiting image may enter the lane: "step", "request" or "single".
        stretch: Multiple of its own work that a waiting request can be overtaken for; 0 is first come, first served.
        observer: Receives measurements.
        on_broken: Called with a request that was alone in a launch that failed.
    """

    def __init__(
        self,
        editor: Editor,
        pool: Executor,
        *,
        slots: int,
        admission: Admission,
        stretch: float,
        observer: Observer,
        on_broken: Callable[[ServerRequest], None],
    ) -> None:
        self.editor, self.cost = editor, LaunchCost()
        self.fatal: AlterbuteError | None = None
        """The error that broke the device for good; None while it works."""
        self._observer, self._on_broken = observer, on_broken
        self._slots, self._admission, self._stretch = slots, admission, stretch
        self._queues = Queues(key=self._priority)
        self._stages = Stages(editor, self._queues, pool, slots=slots, observer=observer)
        self._inbox: deque[tuple[ServerRequest, PreparedPhoto]] = deque()
        self._numbers = itertools.count()
        self._is_batch_closed = self._is_closed = self._is_busy = False
        self._last_launch_s, self._progress_s = 0.0, time.monotonic()
        self._changed = Condition()
        self._thread = Thread(target=self._run, name="alterbute-device", daemon=True)
        self._thread.start()

    def offer(self, request: ServerRequest, prepared: PreparedPhoto) -> None:
        """Put a request whose window is cut into the worker's inbox; from any thread."""
        with self._changed:
            self._inbox.append((request, prepared))
            self._changed.notify()

    def wake(self) -> None:
        """Wake the worker after a change of a request; from any thread."""
        with self._changed:
            self._changed.notify()

    def close(self) -> None:
        """Stop the thread after its current work; remaining requests fail. From any other thread."""
        with self._changed:
            self._is_closed = True
            self._changed.notify()
        self._thread.join()

    @property
    def stuck_s(self) -> float:
        """Seconds since the thread began its current piece of work; 0 while it is idle."""
        return time.monotonic() - self._progress_s if self._is_busy else 0.0

    @property
    def num_running(self) -> int:
        """Images in the lane."""
        return len(self._queues.running)

    def _run(self) -> None:
        while self._wait_for_work():
            try:
                self._remove_ended()
                self._admit()
                if self._queues.running:
                    self._launch()
                self._run_stages()
            except Exception as fault:  # a bug in the loop must not leave clients waiting
                _logger.exception("the device's loop failed")
                self._fail_all(to_project_error(fault))
        self._fail_all(EngineError("the server has stopped", "a running server", "ask again"))

    def _wait_for_work(self) -> bool:
        with self._changed:
            while not (self._inbox or self._queues.has_work() or self._is_closed):
                self._is_busy = False
                self._changed.wait()
            self._is_busy, self._progress_s = True, time.monotonic()
            arrived, self._inbox = self._inbox, deque()
        for request, prepared in arrived:
            self._queues.encoding.append(
                ScheduledRequest(request=request, prepared=prepared, order=next(self._numbers))
            )
        return not self._is_closed

    def _priority(self, request: ServerRequest) -> float:
        if self._admission != "step":  # the other two are first come, first served
            return request.arrived_s
        work_s = request.spec.rows * self.cost.seconds_per_row()
        return priority(
            arrived_s=request.arrived_s, deadline_s=request.spec.deadline_s, work_s=work_s, stretch=self._stretch
        )

    # Requests that leave

    def _remove_ended(self) -> None:
        """Remove requests that are over, were cancelled, are late, or can no longer meet their deadline."""
        for scheduled in self._queues.all_requests():
            request = scheduled.request
            if request.is_over:
                self._remove(scheduled)
            elif error := request.failure_reason():
                is_late = not request.is_cancelled
                self._observer.on_cancel("deadline" if is_late else "running" if request.started_s else "waiting")
                self._fail(scheduled, error)
            elif request.started_s is None and self._misses_deadline(request):
                self._fail(scheduled, deadline_error())

    def _misses_deadline(self, request: ServerRequest) -> bool:
        """Whether the request would be late even if it had a lane to itself from now on."""
        spec = request.spec
        return time.monotonic() + spec.steps * self.cost.seconds(spec.rows / spec.steps) > spec.deadline_s

    def _remove(self, scheduled: ScheduledRequest) -> None:
        for job in self._queues.remove(scheduled):
            self.editor.lane.evict(job)

    def _fail(self, scheduled: ScheduledRequest, fault: AlterbuteError) -> None:
        self._remove(scheduled)
        scheduled.request.fail(fault)

    def _fail_all(self, fault: AlterbuteError) -> None:
        for scheduled in self._queues.all_requests():
            self._fail(scheduled, fault)
        with self._changed:
            arrived, self._inbox = self._inbox, deque()
        for request, _ in arrived:
            request.fail(fault)

    # Images that enter the lane

    def _admit(self) -> None:
        """Fill free slots with the next images; a solo image has the lane to itself."""
        queues = self._queues
        self._is_batch_closed = bool(queues.running)
        while queues.ready and self._may_admit():
            scheduled, job = queues.peek_ready()
            if scheduled.is_solo and queues.running:
                break
            queues.ready.remove((scheduled, job))
            self.editor.lane.admit(job)
            queues.running[job] = scheduled
            if scheduled.request.started_s is None:
                scheduled.request.started_s = time.monotonic()
                self._observer.on_start(scheduled.request.started_s - scheduled.request.arrived_s)

    def _may_admit(self) -> bool:
        running = self._queues.running
        if any(scheduled.is_solo for scheduled in running.values()):
            return False
        if self._admission == "single":
            return not running
        if self._admission == "request" and running and self._is_batch_closed:
            return False
        return len(running) < self._slots

    # Launches

    def _launch(self) -> None:
        queues, lane = self._queues, self.editor.lane
        steps_done = lane.steps_done
        rows = {job: len(job.plan.rows[steps_done[job]]) for job in queues.running}
        start = time.perf_counter()
        try:
            results = lane.step()
        except Exception as fault:
            self._break_launch(to_project_error(fault))
            return
        self._last_launch_s = time.perf_counter() - start
        self.cost.observe(sum(rows.values()), self._last_launch_s)
        self._observer.on_launch(self._last_launch_s, len(rows), sum(rows.values()))
        for job, scheduled in queues.running.items():
            scheduled.request.rows_left -= rows[job]
            if job in lane.steps_done:
                self._stages.queue_preview(scheduled, job, steps_done[job])
        for result in results:
            scheduled = queues.running.pop(result.job)
            if result.fault is None:
                queues.held.append((scheduled, result))
            else:  # only this image failed
                self._fail(scheduled, result.fault)
        if self._admission != "request" or not queues.running:
            queues.release_held()

    def _break_launch(self, fault: AlterbuteError) -> None:
        """Handle a failed launch: an image that was alone in it fails; of several, each starts again alone, with the same noise."""
        is_fatal = isinstance(fault, DeviceError) and fault.is_fatal
        self._observer.on_device_fault(is_fatal)
        steps_done, members = self.editor.lane.steps_done, list(self._queues.running.items())
        _logger.error("a launch of %d images failed", len(members), exc_info=fault)
        for job, scheduled in members:
            self.editor.lane.evict(job)
            scheduled.request.rows_left += sum(len(rows) for rows in job.plan.rows[: steps_done.get(job, 0)])
        self._queues.running.clear()
        self._queues.release_held()
        if is_fatal:
            self.fatal = fault
            for _, scheduled in members:
                scheduled.request.fail(fault)
            self._fail_all(fault)
        elif len(members) == 1:
            self._on_broken(members[0][1].request)
            self._fail(members[0][1], fault)
        else:
            for job, scheduled in members:
                scheduled.is_solo = True
                self._queues.ready.append((scheduled, job))

    def _run_stages(self) -> None:
        until = time.perf_counter() + (_STAGES_SHARE * self._last_launch_s if self._queues.running else 0.0)
        while work := self._stages.next_work():
            work()
            self._progress_s = time.monotonic()
            if time.perf_counter() >= until:
                return


def deadline_error() -> OverloadedError:
    """The error of a request that cannot meet its deadline."""
    return OverloadedError(
        "the request cannot be done before its deadline",
        "a longer timeout_s, or fewer steps",
        "try again later",
        retry_after_s=1,
        code="deadline_unreachable",
    )
