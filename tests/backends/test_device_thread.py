"""One thread makes all calls to a device; what it owns is freed on it, even if the backend is never closed."""

from __future__ import annotations

import gc
import subprocess
import sys
import time
import traceback
import weakref
from threading import Event, Thread, get_ident

import pytest
from alterbute.backends.cuda.device_thread import DeviceThread
from alterbute.errors import EngineError

_LONG_S = 60.0


def test_calls_of_all_threads_run_on_one_thread_and_calls_within_run_at_once() -> None:
    thread = DeviceThread("test")
    seen: list[int] = []
    callers = [Thread(target=lambda: seen.append(thread.call(lambda: thread.call(get_ident)))) for _ in range(4)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join(_LONG_S)
    assert len(seen) == 4
    assert len(set(seen)) == 1
    assert seen[0] != get_ident()
    thread.close()


def test_an_error_reaches_the_caller_with_the_place_where_it_was_raised() -> None:
    thread = DeviceThread("test")

    def fail_in_depth() -> None:
        raise ValueError("seen")

    with pytest.raises(ValueError, match="seen") as caught:
        thread.call(fail_in_depth)
    assert "fail_in_depth" in "".join(traceback.format_tb(caught.value.__traceback__))
    assert thread.call(lambda: 3) == 3
    thread.close()


def test_nothing_of_a_finished_call_stays_alive() -> None:
    class Owned:
        pass

    thread, owned = DeviceThread("test"), Owned()
    reference = weakref.ref(owned)
    thread.call(lambda held=owned: held)  # type: ignore[misc]
    del owned
    until = time.monotonic() + _LONG_S
    while reference() is not None and time.monotonic() < until:
        time.sleep(0.001)
    assert reference() is None
    thread.close()


def test_close_frees_on_the_thread_and_later_calls_are_refused() -> None:
    thread = DeviceThread("test")
    ident = thread.call(get_ident)
    freed: list[int] = []
    thread.on_stop(lambda: freed.append(get_ident()))
    thread.close()
    thread.close()
    assert freed == [ident]
    with pytest.raises(EngineError, match="closed"):
        thread.call(get_ident)


def test_close_raises_what_the_release_raised() -> None:
    def release() -> None:
        raise ValueError("not freed")

    thread = DeviceThread("test")
    thread.on_stop(release)
    with pytest.raises(ValueError, match="not freed"):
        thread.close()
    thread.close()


def test_an_owner_that_is_collected_without_close_has_its_memory_freed_on_the_thread() -> None:
    class Owner:
        def __init__(self) -> None:
            self.thread, self.itself = DeviceThread("test"), self
            weakref.finalize(self, self.thread.stop).atexit = False

    owner, freed, is_freed = Owner(), list[int](), Event()
    ident = owner.thread.call(get_ident)

    def release() -> None:
        freed.append(get_ident())
        is_freed.set()

    owner.thread.on_stop(release)
    del owner
    gc.collect()
    assert is_freed.wait(_LONG_S)
    assert freed == [ident]


def test_the_interpreter_ends_and_frees_what_was_not_closed() -> None:
    program = (
        "from alterbute.backends.cuda.device_thread import DeviceThread\n"
        "thread = DeviceThread('test')\n"
        "thread.on_stop(lambda: print('freed', flush=True))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=_LONG_S, check=True)
    assert done.stdout == "freed\n"
    assert done.stderr == ""
