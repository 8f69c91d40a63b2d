"""Measures what the C++ library promises of its speed and size, as JSON: `python -m tests.cpp.measure`.

Wall-clock times hold for an idle machine; the load is told beside them, and CPU seconds, which a busy one changes little.
"""

from __future__ import annotations

import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from alterbute.bundle import default_bundle_path, open_bundle

from tests.cpp.build import FAST, build, library, require_tools
from tests.cpp.driver import Driver
from tests.cpp.test_edits import draw_mask, draw_photo

EDITS = 15
STARTS = 9


def main() -> None:
    require_tools()
    folder, demo = build("fast", *FAST, "-DALTERBUTE_TESTS=ON"), default_bundle_path()
    figures = {
        "load": round(os.getloadavg()[0], 1),
        "cores": len(os.sched_getaffinity(0)),
        "host_share": host_share(folder, demo),
        "start_to_first_edit": start_to_first_edit(folder, demo),
        "library_mb": round(next(folder.glob("libalterbute.so.*.*")).stat().st_size / 2**20, 2),
    }
    json.dump(figures, sys.stdout, indent=1)
    print()


def host_share(folder: Path, demo: Path) -> dict[str, float]:
    """Share of a default edit that is spent outside ONNX Runtime; medians over edits of one process."""
    photo, mask = draw_photo(128, 128), draw_mask(128, 128, 0)
    shares, totals = [], []
    with Driver(folder / "tests" / "driver") as driver:
        driver.ask("open", path=str(demo), load=True)
        for seed in range(EDITS):
            _, _, told = driver.edit(photo + seed, mask, prompt="color: red", seed=seed)
            *stages, engine = told["timings"]
            shares.append((sum(stages) - engine) / sum(stages))
            totals.append(sum(stages))
    return {
        "median": round(statistics.median(shares), 4),
        "largest": round(max(shares), 4),
        "edit_s": round(statistics.median(totals), 3),
    }


def start_to_first_edit(folder: Path, demo: Path) -> dict[str, float]:
    """A whole process that edits the bundle's sample photo with its defaults and writes a PNG."""
    bundle = open_bundle(demo)
    wall, cpu = [], []
    with tempfile.TemporaryDirectory() as scratch:
        for name in ("photo.png", "mask.png"):
            (Path(scratch) / name).write_bytes(bundle.read(f"sample/{name}"))
        command: list[str | Path] = [
            folder / "edit_png",
            demo,
            f"{scratch}/photo.png",
            f"{scratch}/mask.png",
            "color: red",
            f"{scratch}/out.png",
            "--seed",
            "1",
        ]
        for _ in range(STARTS):
            before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
            subprocess.run(
                command, check=True, capture_output=True, env={**os.environ, "ALTERBUTE_ONNXRUNTIME": str(library())}
            )
            wall.append(time.perf_counter() - start)
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            cpu.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return {
        "wall_s_least": round(min(wall), 2),
        "wall_s_median": round(statistics.median(wall), 2),
        "cpu_s_median": round(statistics.median(cpu), 2),
    }


if __name__ == "__main__":
    main()
