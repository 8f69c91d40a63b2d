"""One device's owner: the thread that does everything the device does, one step after another.

Between two launches of the step graph it looks who left, admits who is next, and does a bounded share of the work
before and after the lane (encode, decode), so that neither the images in the lane nor those around it starve.
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
from alterbute.serve.scheduler.admission import Admission, LaunchCost, admission_key
from alterbute.serve.scheduler.observer import Observer
from alterbute.serve.scheduler.queues import Roster, Task
from alterbute.serve.scheduler.server_request import Ticket
from alterbute.serve.scheduler.stages import Around, as_known
from alterbute.subject import Sight

_log = logging.getLogger(__name__)

# Between two launches, work around the lane takes this share of a launch's time, and at least one piece of work.
_AROUND_SHARE: Final = 0.5


class Device:
    """Owns an editor's engines and lane.

    Args:
        editor: Nobody else may use it.
        pool: Where work that needs no device is done.
        slots: Images in the lane at most.
        admission: See `Admission`.
        stretch: See `admission_key`.
        observer: Who measures.
        on_broken: Told the ticket whose own launch failed.
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
        on_broken: Callable[[Ticket], None],
    ) -> None:
        self.editor, self.cost = editor, LaunchCost()
        self.fatal: AlterbuteError | None = None
        """Why this device will never do anything again, if so."""
        self._observer, self._on_broken = observer, on_broken
        self._slots, self._admission, self._stretch = slots, admission, stretch
        self._roster = Roster(key=self._key)
        self._around = Around(editor, self._roster, pool, slots=slots, observer=observer)
        self._inbox: deque[tuple[Ticket, Sight]] = deque()
        self._numbers = itertools.count()
        self._is_batch_closed = self._is_closed = self._is_busy = False
        self._last_launch_s, self._progress_s = 0.0, time.monotonic()
        self._changed = Condition()
        self._thread = Thread(target=self._run, name="alterbute-device", daemon=True)
        self._thread.start()

    def offer(self, ticket: Ticket, sight: Sight) -> None:
        """A request whose window is cut; from any thread."""
        with self._changed:
            self._inbox.append((ticket, sight))
            self._changed.notify()

    def wake(self) -> None:
        """Something changed about a ticket; from any thread."""
        with self._changed:
            self._changed.notify()

    def close(self) -> None:
        """Let the thread end after what it is doing, and whoever is left fail; from any other thread."""
        with self._changed:
            self._is_closed = True
            self._changed.notify()
        self._thread.join()

    @property
    def stuck_s(self) -> float:
        """How long the thread has been at one piece of work; 0 while it has nothing to do."""
        return time.monotonic() - self._progress_s if self._is_busy else 0.0

    @property
    def num_running(self) -> int:
        """Images in the lane."""
        return len(self._roster.running)

    def _run(self) -> None:
        while self._wait_for_work():
            try:
                self._drop_dead()
                self._admit()
                if self._roster.running:
                    self._launch()
                self._work_around()
            except Exception as fault:  # a bug here must not leave clients waiting
                _log.exception("the device's loop failed")
                self._fail_all(as_known(fault))
        self._fail_all(EngineError("the server has stopped", "a running server", "ask again"))

    def _wait_for_work(self) -> bool:
        with self._changed:
            while not (self._inbox or self._roster.has_work() or self._is_closed):
                self._is_busy = False
                self._changed.wait()
            self._is_busy, self._progress_s = True, time.monotonic()
            arrived, self._inbox = self._inbox, deque()
        for ticket, sight in arrived:
            self._roster.encoding.append(Task(ticket=ticket, sight=sight, order=next(self._numbers)))
        return not self._is_closed

    def _key(self, ticket: Ticket) -> float:
        if self._admission != "step":  # the other two are what they are measured as: first come, first served
            return ticket.arrived_s
        work_s = ticket.ask.rows * self.cost.seconds_per_row()
        return admission_key(
            arrived_s=ticket.arrived_s, deadline_s=ticket.ask.deadline_s, work_s=work_s, stretch=self._stretch
        )

    # Leaving

    def _drop_dead(self) -> None:
        """Whoever was cancelled, is late, or can no longer be in time leaves now, between two launches."""
        for task in self._roster.tasks():
            ticket = task.ticket
            if ticket.is_over:
                self._remove(task)
            elif why := ticket.why_dead():
                is_late = not ticket.is_cancelled
                self._observer.on_cancel("deadline" if is_late else "running" if ticket.started_s else "waiting")
                self._fail(task, why)
            elif ticket.started_s is None and self._is_hopeless(ticket):
                self._fail(task, hopeless_error())

    def _is_hopeless(self, ticket: Ticket) -> bool:
        """Whether even an empty lane would not finish it in time."""
        ask = ticket.ask
        return time.monotonic() + ask.steps * self.cost.seconds(ask.rows / ask.steps) > ask.deadline_s

    def _remove(self, task: Task) -> None:
        for job in self._roster.remove(task):
            self.editor.lane.evict(job)

    def _fail(self, task: Task, fault: AlterbuteError) -> None:
        self._remove(task)
        task.ticket.fail(fault)

    def _fail_all(self, fault: AlterbuteError) -> None:
        for task in self._roster.tasks():
            self._fail(task, fault)
        with self._changed:
            arrived, self._inbox = self._inbox, deque()
        for ticket, _ in arrived:
            ticket.fail(fault)

    # Joining

    def _admit(self) -> None:
        """Fill free slots with who is next; a solo image has the lane to itself."""
        roster = self._roster
        self._is_batch_closed = bool(roster.running)
        while roster.ready and self._may_admit():
            task, job = roster.next_ready()
            if task.is_solo and roster.running:
                break
            roster.ready.remove((task, job))
            self.editor.lane.admit(job)
            roster.running[job] = task
            if task.ticket.started_s is None:
                task.ticket.started_s = time.monotonic()
                self._observer.on_start(task.ticket.started_s - task.ticket.arrived_s)

    def _may_admit(self) -> bool:
        running = self._roster.running
        if any(task.is_solo for task in running.values()):
            return False
        if self._admission == "single":
            return not running
        if self._admission == "request" and running and self._is_batch_closed:
            return False
        return len(running) < self._slots

    # The launch

    def _launch(self) -> None:
        roster, lane = self._roster, self.editor.lane
        done = lane.steps_done
        rows = {job: len(job.plan.rows[done[job]]) for job in roster.running}
        start = time.perf_counter()
        try:
            finished = lane.step()
        except Exception as fault:
            self._break_launch(as_known(fault))
            return
        self._last_launch_s = time.perf_counter() - start
        self.cost.observe(sum(rows.values()), self._last_launch_s)
        self._observer.on_launch(self._last_launch_s, len(rows), sum(rows.values()))
        for job, task in roster.running.items():
            task.ticket.rows_left -= rows[job]
            if job in lane.steps_done:
                self._around.note_preview(task, job, done[job])
        for one in finished:
            task = roster.running.pop(one.job)
            if one.fault is None:
                roster.held.append((task, one))
            else:  # its numbers broke, and only its own
                self._fail(task, one.fault)
        if self._admission != "request" or not roster.running:
            roster.release_held()

    def _break_launch(self, fault: AlterbuteError) -> None:
        """A launch failed. One image alone in it is at fault; of several each starts again alone, with the same noise."""
        is_fatal = isinstance(fault, DeviceError) and fault.is_fatal
        self._observer.on_device_fault(is_fatal)
        done, members = self.editor.lane.steps_done, list(self._roster.running.items())
        _log.error("a launch of %d images failed", len(members), exc_info=fault)
        for job, task in members:
            self.editor.lane.evict(job)
            task.ticket.rows_left += sum(len(rows) for rows in job.plan.rows[: done.get(job, 0)])
        self._roster.running.clear()
        self._roster.release_held()
        if is_fatal:
            self.fatal = fault
            for _, task in members:
                task.ticket.fail(fault)
            self._fail_all(fault)
        elif len(members) == 1:
            self._on_broken(members[0][1].ticket)
            self._fail(members[0][1], fault)
        else:
            for job, task in members:
                task.is_solo = True
                self._roster.ready.append((task, job))

    def _work_around(self) -> None:
        until = time.perf_counter() + (_AROUND_SHARE * self._last_launch_s if self._roster.running else 0.0)
        while piece := self._around.next_piece():
            piece()
            self._progress_s = time.monotonic()
            if time.perf_counter() >= until:
                return


def hopeless_error() -> OverloadedError:
    """What a request hears that cannot be done in its time any more."""
    return OverloadedError(
        "the request cannot be done before its deadline",
        "a longer timeout_s, or fewer steps",
        "try again later",
        retry_after_s=1,
        code="deadline_unreachable",
    )
