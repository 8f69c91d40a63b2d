"""The server's end of one decoder process."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, Final, TypeVar, cast

from alterbute.errors import EngineError, InputError, OverloadedError
from alterbute.images.files.decode import Levels
from alterbute.images.photo import Photo
from alterbute.serve.decoding.frames import Head, read_head, write_message
from alterbute.serve.decoding.job_limits import PictureSize, cpu_limit_s, memory_limit_bytes
from alterbute.serve.decoding.transfer import unpack_levels, unpack_photo
from alterbute.serve.http.error_response import PARAMS, ApiError

T = TypeVar("T")
_logger = logging.getLogger(__name__)

COMMAND: Final = (sys.executable, "-P", "-B", "-m", "alterbute.serve.decoding.decoder_child")
"""Starts a decoder process. -P: the working directory is no place to import from; -B: no file is written."""
# The child gets no other variable of the server, and so none of its keys.
_KEPT_VARIABLES: Final = ("LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "SYSTEMROOT", "PYTHONHOME")
_OWN_VARIABLES: Final = {
    "OPENBLAS_NUM_THREADS": "1",
    # Freed memory of pictures goes back to the system at once (mallopt(3)).
    "MALLOC_MMAP_THRESHOLD_": "16777216",
    "MALLOC_TRIM_THRESHOLD_": "33554432",
}
_PIPE_BYTES: Final = 1 << 20
_REAP_S: Final = 5.0
_HAS_CPU_LIMIT: Final = hasattr(signal, "setitimer")


class DecoderKilled(Exception):
    """The server has ended the process."""


class DecoderProcess:
    """A process that decodes one picture after the other for one thread; `kill` may be called from any thread.

    Args:
        decode_timeout_s: CPU seconds that a picture of 12 megapixels may take; see `cpu_limit_s`.
        command: Starts the program.
    """

    def __init__(self, decode_timeout_s: float, command: Sequence[str] = COMMAND) -> None:
        self._decode_timeout_s, self._command = decode_timeout_s, command
        self._lock = threading.Lock()
        self._popen: subprocess.Popen[bytes] | None = None
        self._replies: BinaryIO | None = None
        self._is_killed = self._is_closed = self._is_over_time = False

    @property
    def is_usable(self) -> bool:
        """Whether the process may take a job: it was not killed, and has not ended."""
        is_ended = self._popen is not None and self._popen.poll() is not None
        return not (self._is_killed or self._is_closed or is_ended)

    def start(self) -> None:
        """Start the process, and wait until it is ready.

        Raises:
            EngineError: it cannot be started.
            DecoderKilled: `kill` was called.
        """
        try:
            with self._lock:
                if self._is_killed:
                    raise DecoderKilled
                self._popen = _open(self._command)
                self._replies = io.BufferedReader(cast("io.RawIOBase", self._popen.stdout), _PIPE_BYTES)
            if read_head(self._replies) == {"is_ready": True}:
                return
        except (OSError, EOFError, ValueError) as fault:
            _logger.error("a decoder process did not start", exc_info=fault)
        self.close()
        if self._is_killed:
            raise DecoderKilled
        raise EngineError(
            "a decoder process could not be started",
            f"{self._command[0]} to run this package",
            "see the log of the server",
        )

    def decode_photo(self, data: bytes, param: str, size: PictureSize) -> Photo:
        """Decode a photo or a reference as `alterbute.images.files.decode.decode` does.

        Args:
            data: The file.
            param: Role of the picture.
            size: Its size by its header.

        Raises:
            InputError: the file cannot be used.
            ApiError: it takes too much time or memory, or breaks the decoder (422).
            OverloadedError: the system has ended the process.
            DecoderKilled: `kill` was called.
        """
        return self._run("photo", data, param, size, unpack_photo)

    def decode_levels(self, data: bytes, param: str, size: PictureSize) -> Levels:
        """Decode a mask as `alterbute.images.files.decode.decode_levels` does; errors are those of `decode_photo`.

        Args:
            data: The file.
            param: Role of the picture.
            size: Its size by its header.
        """
        return self._run("levels", data, param, size, unpack_levels)

    def kill(self) -> None:
        """End the process, from any thread; a call that waits for it raises `DecoderKilled`."""
        with self._lock:
            self._is_killed = True
            if self._popen is not None:
                self._popen.kill()

    def close(self) -> None:
        """End the process and close its pipes, when no call waits for it."""
        self._is_closed = True
        if self._popen is None:
            return
        self._popen.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._popen.wait(_REAP_S)
        for pipe in (self._popen.stdin, self._replies):
            assert pipe is not None
            pipe.close()

    def _run(
        self, kind: str, data: bytes, param: str, size: PictureSize, unpack: Callable[[Head, BinaryIO, PictureSize], T]
    ) -> T:
        if self._popen is None:
            self.start()
        assert self._popen is not None and self._popen.stdin is not None and self._replies is not None
        cpu_s = cpu_limit_s(size, self._decode_timeout_s)
        job: Head = {
            "kind": kind,
            "param": param,
            "size": len(data),
            "cpu_s": cpu_s,
            "memory_bytes": memory_limit_bytes(size, len(data)),
        }
        try:
            with self._wall_clock_limit(cpu_s):
                write_message(cast("BinaryIO", self._popen.stdin), job, [data])
                reply = read_head(self._replies)
                if reply is None:
                    raise EOFError
                if "error" in reply:
                    raise InputError(*(str(text) for text in reply["error"]))
                if "is_out_of_memory" not in reply:
                    return unpack(reply, self._replies, size)
        except (OSError, EOFError):
            raise self._death_error(param) from None
        except (ValueError, KeyError, TypeError) as fault:
            _logger.error("a decoder process sent a malformed reply", exc_info=fault)
            self.close()
            raise _picture_error(param, "breaks its decoder", "image_undecodable") from None
        self.close()  # with what is left of the picture in its memory
        raise _picture_error(param, "needs more memory to decode than pictures of its size do", "image_too_complex")

    @contextlib.contextmanager
    def _wall_clock_limit(self, seconds: float) -> Iterator[None]:
        """Where the system has no limit of CPU time, end a job after as many seconds."""
        if _HAS_CPU_LIMIT:
            yield
            return
        timer = threading.Timer(seconds, self._end_slow_job)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()

    def _end_slow_job(self) -> None:
        self._is_over_time = True
        assert self._popen is not None
        self._popen.kill()

    def _death_error(self, param: str) -> Exception:
        """The error of a process that ended during a job, by the way in which it ended."""
        assert self._popen is not None
        # Its pipes are closed, so it has ended or is about to; one that goes on is ended by `close`.
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._popen.wait(_REAP_S)
        code = self._popen.returncode
        self.close()
        if self._is_killed:
            return DecoderKilled()
        if self._is_over_time or code in _exit_codes("SIGPROF", "SIGXCPU"):
            return _picture_error(param, "takes too long to decode", "image_too_slow")
        _logger.error("a decoder process ended", extra={"code": code})
        if code in _exit_codes("SIGKILL"):
            return OverloadedError(
                "the system has ended the decoder of the pictures",
                "memory for it",
                "try again",
                retry_after_s=1,
                code="decoders_busy",
            )
        return _picture_error(param, "breaks its decoder", "image_undecodable")


def _open(command: Sequence[str]) -> subprocess.Popen[bytes]:
    # The same modules as here, wherever this package and its libraries were found.
    own_folder = str(Path(__file__).resolve().parents[3])
    paths = [own_folder, *(str(Path(path).resolve()) for path in sys.path if path)]
    kept = {name: os.environ[name] for name in _KEPT_VARIABLES if name in os.environ}
    popen = subprocess.Popen(
        command,
        bufsize=0,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**kept, **_OWN_VARIABLES, "PYTHONPATH": os.pathsep.join(dict.fromkeys(paths))},
        process_group=None if sys.platform == "win32" else 0,
    )
    if sys.platform.startswith("linux"):
        import fcntl

        for pipe in (popen.stdin, popen.stdout):
            assert pipe is not None
            with contextlib.suppress(OSError):  # beyond what this user may take
                fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
    return popen


def _exit_codes(*names: str) -> list[int]:
    """The exit codes of a process that was ended by one of these signals."""
    return [-getattr(signal, name) for name in names if hasattr(signal, name)]


def _picture_error(param: str, problem: str, code: str) -> ApiError:
    field = "image" if param == "reference" else PARAMS.get(param, param)
    return ApiError(422, f"the {field} {problem}; save it anew", code, field, retry=False, reason="bad_image")
