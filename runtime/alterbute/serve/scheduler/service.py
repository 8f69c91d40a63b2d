"""Lanes as a service: requests come from any thread, wait in one bounded queue, and leave with their images."""

from __future__ import annotations

import logging
import math
import time
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import Executor
from threading import Lock
from typing import Final

from alterbute.editor import Editor
from alterbute.errors import InputError, OverloadedError
from alterbute.serve.scheduler.admission import Admission, admission_key
from alterbute.serve.scheduler.observer import Observer
from alterbute.serve.scheduler.server_request import Ask, Ticket
from alterbute.serve.scheduler.stages import as_known
from alterbute.serve.scheduler.worker import Device, hopeless_error

_log = logging.getLogger(__name__)

_MIN_STUCK_S: Final = 20.0
_QUARANTINE_S: Final = 600.0
_MAX_QUARANTINED: Final = 1000
_RETRY_S: Final = (1, 60)


class Service:
    """Devices behind one queue.

    Args:
        editors: One per device; the service owns them from here on.
        pool: Where work that needs no device is done.
        slots: Images in a lane at most; the editors have at least as many.
        max_queue: Images that may wait, beside those that the lanes hold.
        admission: See `Admission`.
        stretch: See `admission_key`.
        observer: Who measures.
    """

    def __init__(
        self,
        editors: Sequence[Editor],
        pool: Executor,
        *,
        slots: int,
        max_queue: int,
        admission: Admission = "step",
        stretch: float = 1.5,
        observer: Observer | None = None,
    ) -> None:
        self._pool, self._stretch = pool, stretch
        self._room = max_queue + slots * len(editors)
        self._observer = observer or Observer()
        self._tickets: dict[Ticket, Device] = {}
        self._quarantine: OrderedDict[bytes, float] = OrderedDict()
        self._lock = Lock()
        self.is_draining = False
        self.devices = [
            Device(
                editor,
                pool,
                slots=slots,
                admission=admission,
                stretch=stretch,
                observer=self._observer,
                on_broken=self._put_in_quarantine,
            )
            for editor in editors
        ]

    @property
    def editor(self) -> Editor:
        """For checking requests, which any editor of the bundle can do from any thread."""
        return self.devices[0].editor

    @property
    def num_waiting(self) -> int:
        """Images of accepted requests of which none has entered a lane."""
        with self._lock:
            return sum(len(ticket.ask.requests) for ticket in self._tickets if ticket.started_s is None)

    @property
    def num_running(self) -> int:
        """Requests that have entered a lane and are not over."""
        with self._lock:
            return sum(ticket.started_s is not None for ticket in self._tickets)

    @property
    def num_accepted(self) -> int:
        """Requests that are not over."""
        return len(self._tickets)

    @property
    def is_full(self) -> bool:
        """Whether a request of one image would be refused."""
        return self._num_images() >= self._room

    def why_dead(self) -> str | None:
        """Why the process should be started anew, if so: a device is broken, or stuck in one piece of work."""
        for device in self.devices:
            if device.fatal is not None:
                return "device_fault"
            if device.stuck_s > max(_MIN_STUCK_S, 3 * device.cost.slow_s):
                return "device_stuck"
        return None

    def check_room(self, images: int = 1) -> None:
        """Refuse at once what would be refused later; cheap, and asked before a body is read.

        Raises:
            OverloadedError: the queue is full, or the server is about to stop.
        """
        if self.is_draining:
            raise OverloadedError(
                "the server is about to stop", "another server", "try again", retry_after_s=5, code="draining"
            )
        taken = self._num_images()
        # A request that is larger than the whole server may still have it to itself.
        if taken > 0 and taken + images > self._room:
            raise OverloadedError(
                f"{taken} images are waiting or running",
                f"at most {self._room}",
                "try again after Retry-After",
                retry_after_s=self.retry_after_s(),
                code="queue_full",
            )

    def retry_after_s(self) -> int:
        """When the queue should have moved on: the work that waits, at the measured speed, shared by the devices."""
        with self._lock:
            seconds = sum(ticket.rows_left * device.cost.seconds_per_row() for ticket, device in self._tickets.items())
        return min(max(math.ceil(seconds / len(self.devices)), _RETRY_S[0]), _RETRY_S[1])

    def estimate_s(self, ask: Ask) -> float:
        """Seconds until a request would be done if it came now: what goes before it, and itself."""
        return self._estimate_s(ask, self._pick_device())

    def submit(self, ask: Ask) -> Ticket:
        """Accept a request.

        Raises:
            OverloadedError: no room, or its deadline cannot be met.
            InputError: it broke a launch before.
        """
        self.check_room(len(ask.requests))
        self._check_quarantine(ask.fingerprint)
        device = self._pick_device()
        if time.monotonic() + self._estimate_s(ask, device) > ask.deadline_s:
            raise hopeless_error()
        return self.submit_to(device, ask)

    def submit_to(self, device: Device, ask: Ask) -> Ticket:
        """Accept a request for one device without asking whether there is room: for warming up."""
        ticket = Ticket(ask=ask, on_change=device.wake)
        with self._lock:
            self._tickets[ticket] = device
        ticket.future.add_done_callback(lambda _: self._forget(ticket))
        self._pool.submit(self._look, ticket, device)
        return ticket

    def drain(self) -> None:
        """Accept nothing more; what was accepted goes on."""
        self.is_draining = True

    def cancel_all(self) -> None:
        """Give up what is left: it may be asked for again, elsewhere."""
        with self._lock:
            tickets = list(self._tickets)
        for ticket in tickets:
            ticket.fail(_draining_error())
        for device in self.devices:
            device.wake()

    def close(self) -> None:
        """Stop the devices and free their engines."""
        self.drain()
        for device in self.devices:
            device.close()
            device.editor.close()

    def _num_images(self) -> int:
        with self._lock:
            return sum(len(ticket.ask.requests) for ticket in self._tickets)

    def _look(self, ticket: Ticket, device: Device) -> None:
        start = time.perf_counter()
        try:
            if why := ticket.why_dead():
                self._observer.on_cancel("deadline" if not ticket.is_cancelled else "waiting")
                raise why
            ask = ticket.ask
            sight = device.editor.look(ask.photo, ask.region, ask.reference)
        except Exception as fault:
            ticket.fail(as_known(fault))
            return
        self._observer.on_stage("window", time.perf_counter() - start)
        device.offer(ticket, sight)

    def _pick_device(self) -> Device:
        """The one with the least work before it."""
        with self._lock:
            work = dict.fromkeys(self.devices, 0.0)
            for ticket, device in self._tickets.items():
                work[device] += ticket.rows_left * (device.cost.seconds_per_row() or 1.0)
        sound = [device for device in self.devices if device.fatal is None]
        return min(sound or self.devices, key=lambda device: work[device])

    def _estimate_s(self, ask: Ask, device: Device) -> float:
        now, row_s = time.monotonic(), device.cost.seconds_per_row()

        def key(other: Ask, arrived_s: float) -> float:
            return admission_key(
                arrived_s=arrived_s, deadline_s=other.deadline_s, work_s=other.rows * row_s, stretch=self._stretch
            )

        mine = key(ask, now)
        with self._lock:
            before = sum(
                ticket.rows_left
                for ticket, owner in self._tickets.items()
                if owner is device and (ticket.started_s is not None or key(ticket.ask, ticket.arrived_s) <= mine)
            )
        own_s = ask.steps * device.cost.seconds(ask.rows / ask.steps)
        return before * row_s + own_s

    def _forget(self, ticket: Ticket) -> None:
        with self._lock:
            self._tickets.pop(ticket, None)

    def _put_in_quarantine(self, ticket: Ticket) -> None:
        """It broke a launch of its own, alone: the same content is refused for a while."""
        with self._lock:
            self._quarantine[ticket.ask.fingerprint] = time.monotonic()
            while len(self._quarantine) > _MAX_QUARANTINED:
                self._quarantine.popitem(last=False)

    def _check_quarantine(self, fingerprint: bytes) -> None:
        with self._lock:
            since = self._quarantine.get(fingerprint)
            if since is None:
                return
            if time.monotonic() - since > _QUARANTINE_S:
                del self._quarantine[fingerprint]
                return
        raise InputError(
            "this request broke the engine before",
            "another one",
            "change it, or wait ten minutes",
            "image",
            "request_quarantined",
        )


def _draining_error() -> OverloadedError:
    return OverloadedError(
        "the server is about to stop", "another server", "try again", retry_after_s=5, code="draining"
    )
