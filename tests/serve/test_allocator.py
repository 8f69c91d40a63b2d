"""Memory that the server frees goes back to the system."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest

PROGRAM = """
    import os
    from pathlib import Path

    from alterbute.serve.allocator import return_large_blocks

    def resident_mb():
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20

    if not return_large_blocks():
        raise SystemExit("none")
    kept, before = [], resident_mb()
    for _ in range(3):
        blocks = []
        for _ in range(8):
            blocks.append(b"x" * (20 << 20))
            kept.append(bytearray(8000))  # in the heap behind the block, which could not shrink
        blocks.clear()
    print(resident_mb() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="a setting of glibc")
def test_freed_blocks_of_20_megabytes_do_not_stay_resident() -> None:
    run = subprocess.run([sys.executable, "-c", textwrap.dedent(PROGRAM)], capture_output=True, text=True, timeout=60)
    if run.stderr.strip() == "none":
        pytest.skip("this C library has no such setting")
    assert float(run.stdout) < 30, run
