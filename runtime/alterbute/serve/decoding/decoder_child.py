"""The program of a decoder process: it decodes one picture file after the other, each within its own limits.

It reads jobs from its standard input and ends with it, so that none is left when the server is killed.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from alterbute.errors import InputError
from alterbute.images.files.decode import decode, decode_levels
from alterbute.serve.decoding.frames import Head, read_bytes, read_head, write_message
from alterbute.serve.decoding.transfer import pack_levels, pack_photo

if TYPE_CHECKING:
    from numpy.typing import NDArray

_READERS: Final = ("Jpeg", "Png", "WebP", "Avif", "Tiff", "Bmp", "Gif")
_DATA_FIELD: Final = 5
"""Field of /proc/self/statm with the pages that RLIMIT_DATA counts (proc_pid_statm(5))."""


def main() -> None:
    """Answer jobs until the standard input ends."""
    # A signal to the whole group, such as Ctrl-C, starts the server's drain, in which pictures are still decoded.
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    jobs = os.fdopen(os.dup(0), "rb")
    replies = os.fdopen(os.dup(1), "wb", buffering=0)
    # What a library prints must not come between the replies.
    os.dup2(2, 1)
    _prepare()
    write_message(replies, {"is_ready": True}, [])
    while (job := read_head(jobs)) is not None:
        limit_job(job["cpu_s"], job["memory_bytes"])
        head, buffers = _run(job, read_bytes(jobs, job["size"]))
        write_message(replies, head, buffers)
        del buffers
        limit_job(0.0, None)


def limit_job(cpu_s: float, memory_bytes: int | None) -> None:
    """Limit what this process uses from now on; does nothing where the system has no such limits.

    When the CPU time is over, the system ends the process with SIGPROF. Memory beyond the limit cannot be allocated.

    Args:
        cpu_s: Seconds of CPU time; 0 is no limit.
        memory_bytes: Bytes in addition to those in use; None is no limit.
    """
    if sys.platform == "win32":
        return
    signal.setitimer(signal.ITIMER_PROF, cpu_s)
    if not sys.platform.startswith("linux"):
        return  # macOS does not hold the limit
    import resource

    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    if memory_bytes is None:
        resource.setrlimit(resource.RLIMIT_DATA, (hard, hard))
        return
    with open("/proc/self/statm", "rb") as file:
        used = int(file.read().split()[_DATA_FIELD]) * resource.getpagesize()
    limit = used + memory_bytes
    resource.setrlimit(resource.RLIMIT_DATA, (limit if hard == resource.RLIM_INFINITY else min(limit, hard), hard))


def _prepare() -> None:
    """Load the readers of all formats, and forbid what decoding does not need."""
    for reader in _READERS:
        import_module(f"PIL.{reader}ImagePlugin")
    # As many processes run as there are CPUs; more threads in each would only take memory.
    import PIL.AvifImagePlugin

    PIL.AvifImagePlugin.DEFAULT_MAX_THREADS = 1
    if sys.platform != "win32":
        import resource

        # It ends the process, whatever the setting was that the server has passed on.
        signal.signal(signal.SIGPROF, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGPROF})

        # No image of its memory, which holds people's pictures, and no other file is written.
        for limit in (resource.RLIMIT_CORE, resource.RLIMIT_FSIZE):
            resource.setrlimit(limit, (0, 0))


def _run(job: Head, data: bytes) -> tuple[Head, list[bytes | NDArray[Any]]]:
    """The reply to a job: a decoded picture, or the error."""
    try:
        if job["kind"] == "photo":
            return pack_photo(decode(data, job["param"]))
        return pack_levels(decode_levels(data, job["param"]))
    except MemoryError:
        return {"is_out_of_memory": True}, []
    except InputError as fault:
        if _has_memory_error(fault):
            return {"is_out_of_memory": True}, []
        return {"error": [fault.seen, fault.expected, fault.fix, fault.param, fault.code]}, []


def _has_memory_error(fault: BaseException) -> bool:
    """Whether an error was raised while a MemoryError was handled: decoders report any exception as a damaged file."""
    return isinstance(fault.__context__, MemoryError)


if __name__ == "__main__":
    with contextlib.suppress(BrokenPipeError, EOFError):  # the server has ended
        main()
