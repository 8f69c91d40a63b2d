"""The bytes of a picture from a path or an open file, under the limit of a picture's file."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Final

from alterbute.errors import InputError
from alterbute.images.arrays import MAX_PIXELS
from alterbute.images.files.refusals import path_error
from alterbute.plain_file import open_file

# An uncompressed RGBA picture of MAX_PIXELS with 16 bits, and room for its metadata.
MAX_FILE_BYTES: Final = 8 * MAX_PIXELS + (4 << 20)


def read_stream(file: object, param: str) -> bytes:
    """The bytes of an open file from its start, or from where it stands if it cannot seek.

    Raises:
        InputError: it cannot be read, or is open for text.
    """
    try:
        if callable(getattr(file, "seek", None)):
            file.seek(0)  # type: ignore[attr-defined]
        data = file.read(MAX_FILE_BYTES + 1)  # type: ignore[attr-defined]
    except (OSError, ValueError) as fault:
        raise path_error("file", param, f"cannot be read ({fault})") from None
    if not isinstance(data, bytes):
        raise InputError(
            f"the {param} is a file that is open for text",
            "a file that is open for bytes",
            'open it with mode "rb"',
            param,
            f"{param}_type",
        )
    return data


def read_file(path: str | Path, param: str) -> bytes:
    """The bytes of a picture's file, at most one more than `MAX_FILE_BYTES`.

    Raises:
        InputError: it cannot be read, or is no file.
    """
    try:
        return read_bytes(path, MAX_FILE_BYTES)
    except OSError as fault:
        raise path_error(path, param, str(fault)) from None


def read_bytes(path: str | Path, most: int) -> bytes:
    """The bytes of a file, at most one more than a number; a special file is not waited for.

    Raises:
        OSError: it cannot be read, or is no file. Its text goes on after the name of the file.
    """
    try:
        with open_file(path) as file:
            facts = os.fstat(file.fileno())
            if stat.S_ISREG(facts.st_mode):
                # No more than the file's size: memory is taken for the whole number. Some special files are empty where they
                # have nothing to give yet.
                return file.read(min(facts.st_size, most) + 1) or b""
    except IsADirectoryError:
        pass
    except (OSError, ValueError) as fault:
        raise OSError(f"cannot be read ({getattr(fault, 'strerror', None) or fault})") from None
    raise OSError("is not a file")
