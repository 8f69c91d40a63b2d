"""Decoder programs that do what a file's last bytes say, and what processes leave behind."""

from __future__ import annotations

import contextlib
import os
import sys
import textwrap
from pathlib import Path

HOSTILE_DECODER = """
    import os, signal, time
    import numpy as np
    from alterbute.images.photo import Photo
    from alterbute.serve.decoding import decoder_child

    def hostile(real):
        def decode(data, param):
            order = data[-2:]
            if order == b"!B":  # burns
                while True:
                    pass
            if order == b"!M":  # takes memory
                np.ones(1 << 28, np.uint8)
            if order == b"!C":  # crashes
                os.kill(os.getpid(), signal.SIGSEGV)
            if order == b"!K":  # is ended by the system
                os.kill(os.getpid(), signal.SIGKILL)
            if order == b"!S":  # sleeps
                time.sleep(600)
            if order == b"!L":  # gives another picture than the header states
                return Photo(pixels=np.zeros((640, 480, 3), np.uint8))
            return real(data, param)

        return decode

    decoder_child.decode = hostile(decoder_child.decode)
    decoder_child.decode_levels = hostile(decoder_child.decode_levels)
    decoder_child.main()
"""
HOSTILE = (sys.executable, "-P", "-B", "-c", textwrap.dedent(HOSTILE_DECODER))
# Speaks the protocol and imports nothing, so that it starts at once: sleeps for a file that ends so, else gives a black photo.
QUICK_DECODER = """
    import json, struct, sys, time

    def send(head, data=b""):
        text = json.dumps(head).encode()
        sys.stdout.buffer.write(struct.pack("<I", len(text)) + text + data)
        sys.stdout.buffer.flush()

    send({"is_ready": True})
    while length := sys.stdin.buffer.read(4):
        job = json.loads(sys.stdin.buffer.read(struct.unpack("<I", length)[0]))
        if sys.stdin.buffer.read(job["size"]).endswith(b"!S"):
            time.sleep(600)
        rest = {"blocks": [None] * 4, "texts": [], "chunks": [], "orientation": 1, "dpi": None, "warnings": []}
        send({"height": 48, "width": 64, "planes": {"pixels": "uint8"}, **rest}, bytes(48 * 64 * 3))
"""
QUICK = (sys.executable, "-I", "-S", "-c", textwrap.dedent(QUICK_DECODER))


def count_open_files() -> int:
    """Descriptors that this process has open."""
    return len(os.listdir("/proc/self/fd"))


def list_children(pid: int | str = "self") -> list[int]:
    """Processes that a process has started, those included that have ended and were not waited for."""
    children: list[int] = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(OSError):  # a thread that has ended meanwhile
            children += [int(child) for child in (task / "children").read_text().split()]
    return children
