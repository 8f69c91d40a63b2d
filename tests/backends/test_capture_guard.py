"""A thread that captures is alone in the process; other threads share the devices."""

from __future__ import annotations

import time
from collections.abc import Callable
from threading import Barrier, Event, Thread

from alterbute.backends.cuda.capture_guard import CaptureGuard

_LONG_S = 60.0


def _run(*works: Callable[[], None]) -> None:
    """Run functions in threads; a deadlock ends in a failure, not in a test that hangs."""
    threads = [Thread(target=work, daemon=True) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(_LONG_S)
    assert not any(thread.is_alive() for thread in threads), "the threads wait for each other"


def test_a_capture_meets_neither_another_capture_nor_other_use() -> None:
    guard, inside, meetings = CaptureGuard(), [0, 0], list[tuple[int, int]]()

    def share() -> None:
        for _ in range(300):
            with guard.shared():
                inside[0] += 1
                if inside[1]:
                    meetings.append((inside[0], inside[1]))
                inside[0] -= 1

    def capture() -> None:
        for _ in range(100):
            with guard.shared(), guard.exclusive():
                inside[1] += 1
                for _ in range(50):
                    if inside != [0, 1]:
                        meetings.append((inside[0], inside[1]))
                inside[1] -= 1

    _run(share, share, capture, capture)
    assert not meetings


def test_threads_that_share_do_not_wait_for_each_other() -> None:
    guard, both = CaptureGuard(), Barrier(2)

    def share() -> None:
        with guard.shared():
            both.wait(_LONG_S)

    _run(share, share)
    assert not both.broken


def test_two_threads_that_share_can_both_begin_a_capture() -> None:
    guard, both, done = CaptureGuard(), Barrier(2), list[int]()

    def capture() -> None:
        with guard.shared():
            both.wait(_LONG_S)
            with guard.exclusive(), guard.exclusive(), guard.shared():
                done.append(1)

    _run(capture, capture)
    assert len(done) == 2


def test_a_waiting_capture_goes_before_those_that_come_after_it() -> None:
    guard, order = CaptureGuard(), list[str]()
    is_held, may_leave = Event(), Event()

    def hold() -> None:
        with guard.shared():
            is_held.set()
            may_leave.wait(_LONG_S)
            with guard.shared():  # the thread that is inside may enter again, although a capture waits
                order.append("held")

    def capture() -> None:
        is_held.wait(_LONG_S)
        with guard.exclusive():
            order.append("capture")

    def come_later() -> None:
        while not guard._num_waiting:
            time.sleep(0.001)
        may_leave.set()
        with guard.shared():
            order.append("later")

    _run(hold, capture, come_later)
    assert order == ["held", "capture", "later"]


def test_an_error_in_a_capture_lets_the_others_in() -> None:
    guard = CaptureGuard()
    try:
        with guard.shared(), guard.exclusive():
            raise ValueError("the capture failed")
    except ValueError:
        pass
    _run(lambda: guard.exclusive().__enter__())
