"""Opening of plain files only: never waits for a pipe or device, and never follows the last link where that is asked for."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import BinaryIO, Final

# O_NONBLOCK: opening a FIFO must not block. A system without one of the flags uses 0, and the file is still checked.
_OPEN_FLAGS: Final = (
    os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
)
_NO_FOLLOW: Final = getattr(os, "O_NOFOLLOW", 0)


def open_file(path: str | Path, *, follow: bool = True) -> BinaryIO:
    """Open a file for reading, of whatever kind, without waiting; the caller checks the kind.

    Args:
        path: The file.
        follow: Whether the path may be a symbolic link.

    Raises:
        OSError: it cannot be opened.
    """
    descriptor = os.open(path, _OPEN_FLAGS if follow else _OPEN_FLAGS | _NO_FOLLOW)
    try:
        return os.fdopen(descriptor, "rb")
    except BaseException:  # such as a folder
        os.close(descriptor)
        raise


def read_plain_file(path: str | Path, limit: int) -> bytes:
    """Read a plain file, at most `limit` bytes of it.

    Raises:
        OSError: it cannot be read, or is a pipe, device or folder.
    """
    try:
        with open_file(path) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise OSError(errno.EINVAL, "it is a pipe or a device")
            # Some files of the system are empty where they have nothing to give yet.
            return file.read(limit) or b""
    except ValueError:  # a NUL in the path
        raise OSError(errno.EINVAL, "it is no path") from None
