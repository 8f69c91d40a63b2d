"""Messages between the server and its decoder processes: a JSON object, then raw bytes whose sizes it states.

Nothing is pickled: a decoder reads hostile files, so what it sends is checked like a file.
"""

from __future__ import annotations

import json
import struct
from typing import TYPE_CHECKING, Any, BinaryIO, Final, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

Head: TypeAlias = "dict[str, Any]"
MAX_HEAD_BYTES: Final = 1 << 18
_LENGTH: Final = struct.Struct("<I")


def write_message(file: BinaryIO, head: Head, buffers: list[bytes | NDArray[Any]]) -> None:
    """Write a message to an unbuffered pipe.

    Args:
        file: The pipe.
        head: The JSON object.
        buffers: The bytes that follow it.

    Raises:
        OSError: the other end is closed.
    """
    text = json.dumps(head).encode()
    _write_all(file, memoryview(_LENGTH.pack(len(text)) + text))
    for buffer in buffers:
        view = memoryview(np.ascontiguousarray(buffer)) if isinstance(buffer, np.ndarray) else memoryview(buffer)
        _write_all(file, view.cast("B"))


def read_head(file: BinaryIO) -> Head | None:
    """Read the JSON object of the next message from a buffered pipe; None at the end of the pipe.

    Raises:
        EOFError: the pipe ended inside the object.
        ValueError: it is too large, or no JSON object.
    """
    length = file.read(_LENGTH.size)
    if not length:
        return None
    if len(length) < _LENGTH.size:
        raise EOFError
    (size,) = _LENGTH.unpack(length)
    if size > MAX_HEAD_BYTES:
        raise ValueError(f"a message head of {size} bytes")
    head = json.loads(read_bytes(file, size))
    if not isinstance(head, dict):
        raise ValueError("a message head that is no object")
    return head


def read_bytes(file: BinaryIO, size: int) -> bytes:
    """Read exactly `size` bytes from a buffered pipe.

    Raises:
        EOFError: the pipe ended before.
    """
    data = file.read(size)
    if len(data) < size:
        raise EOFError
    return data


def read_array(file: BinaryIO, array: NDArray[Any]) -> None:
    """Fill a contiguous array from a buffered pipe.

    Raises:
        EOFError: the pipe ended before.
    """
    view = memoryview(array).cast("B")
    while view:
        count = file.readinto(view)  # type: ignore[attr-defined]
        if not count:
            raise EOFError
        view = view[count:]


def _write_all(file: BinaryIO, view: memoryview) -> None:
    while view:
        view = view[file.write(view) :]
