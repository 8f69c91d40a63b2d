"""The file of API keys: a line per key, its SHA-256 in hex and a name."""

from __future__ import annotations

import hashlib
import os
import re
import select
import stat
import time
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Final

from alterbute.errors import InputError

_LINE: Final = re.compile(r"([0-9A-Fa-f]{64})(?:[ \t]+(\S{1,64}))?")
_MAX_BYTES: Final = 1 << 20
_PIPE_S: Final = 10.0
_PIECE_BYTES: Final = 64 << 10
# What `sha256sum` prints as the name of its standard input, in text and binary mode.
_UNNAMED: Final = (None, "-", "*-")


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKey:
    """An accepted key: its SHA-256, and its name in logs and rate limits."""

    digest: bytes
    name: str


def _list_blunders() -> dict[bytes, str]:
    """SHA-256 digests of what is hashed by mistake in place of a key, with the cause."""
    # `echo "$KEY"` without a KEY hashes a line end; up to four characters of white space stand for its kin.
    blanks = ["".join(every) for length in range(5) for every in product(" \t\r\n", repeat=length)]
    causes = dict.fromkeys(blanks, "of an empty key: the shell variable with the key was unset or empty")
    for name in ("KEY", "$KEY", "${KEY}", "${KEY:?}", "{KEY}"):
        for end in ("", "\n", "\r\n"):
            causes[name + end] = f"of the text {name} itself, and not of a key"
    return {hashlib.sha256(text.encode()).digest(): cause for text, cause in causes.items()}


_BLUNDERS: Final = _list_blunders()


def read_key_file(path: Path) -> list[ApiKey]:
    """Read a key file: a regular file, a link to one, or a pipe such as the shell's `<(...)`; at most 1 MiB.

    Lines end with LF or CR LF and no other character. Empty lines and lines that begin with `#` are left out. A key without a
    name, or with `-`, which `sha256sum` prints, is named after its line: `key-3`.

    Raises:
        InputError: the file cannot be read, can be written by every user, holds no key, or has a line that is no key, a key
            that another line has, or the hash of an empty key.
    """
    try:
        lines = _read(path).decode("utf-8-sig").split("\n")
    except UnicodeDecodeError:
        raise _file_error(path, "is not UTF-8") from None
    except OSError as fault:
        raise _file_error(path, f"cannot be read ({fault.strerror or type(fault).__name__})") from None
    except ValueError:
        raise _file_error(path, "has a name that no file can have") from None
    keys: dict[bytes, tuple[int, ApiKey]] = {}
    for number, text in enumerate(lines, 1):
        line = text.removesuffix("\r").strip(" \t")
        if not line or line.startswith("#"):
            continue
        match = _LINE.fullmatch(line)
        if match is None or not (match[2] or "").isprintable():
            raise _file_error(path, f"has a line {number} that is no SHA-256 in hex and a name")
        digest = bytes.fromhex(match[1])
        if digest in _BLUNDERS:
            raise _file_error(path, f"has in line {number} the hash {_BLUNDERS[digest]}")
        if digest in keys:
            raise _file_error(path, f"has in line {number} the key of line {keys[digest][0]} again")
        name = f"key-{number}" if match[2] in _UNNAMED else match[2]
        keys[digest] = (number, ApiKey(digest=digest, name=name))
    if not keys:
        raise _file_error(path, "holds no key")
    return [key for _, key in keys.values()]


def _read(path: Path) -> bytes:
    """The bytes of a regular file or pipe; opening waits for nothing, and reading a pipe has a time limit."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    try:
        mode = os.fstat(descriptor).st_mode
        is_pipe = stat.S_ISFIFO(mode)
        if not is_pipe and not stat.S_ISREG(mode):
            raise _file_error(path, "is no file and no pipe")
        if not is_pipe and mode & stat.S_IWOTH:
            raise _file_error(path, "can be written by every user of this machine (run `chmod o-w` on it)")
        data, until = bytearray(), time.monotonic() + _PIPE_S
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        while len(data) <= _MAX_BYTES:
            if is_pipe and not poll.poll(max(until - time.monotonic(), 0) * 1000):
                raise _file_error(path, f"is a pipe that was not closed within {_PIPE_S:.0f} s")
            try:
                piece = os.read(descriptor, _PIECE_BYTES)
            except BlockingIOError:
                continue
            if not piece:
                return bytes(data)
            data += piece
        raise _file_error(path, f"has more than {_MAX_BYTES >> 20} MiB")
    finally:
        os.close(descriptor)


def _file_error(path: Path, why: str) -> InputError:
    return InputError(
        f"the API key file {str(path)!r} {why}",
        "a line per key: its SHA-256 in hex, then a name",
        'make one with `: "${KEY:?}" && printf %s "$KEY" | sha256sum`',
        "api_key_file",
        "api_key_file",
    )
