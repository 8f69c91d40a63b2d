"""Search for values that overflow fp16: every value is measured, in memory that does not grow with their number."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from alterbute_export.checks.recorded_edit import GraphCall
from alterbute_export.half.overflow import find_overflow
from onnx.helper import make_graph, make_model, make_node, make_opsetid, make_tensor_value_info

LAYERS = 40
SIDE = 1024


def write_chain(path: Path, layers: int) -> None:
    """Write a graph that doubles a `[1024,1024]` value `layers` times."""
    nodes = [make_node("Add", [f"v{index}", f"v{index}"], [f"v{index + 1}"]) for index in range(layers)]
    edges = [make_tensor_value_info(name, onnx.TensorProto.FLOAT, [SIDE, SIDE]) for name in ("v0", f"v{layers}")]
    path.write_bytes(
        make_model(
            make_graph(nodes, "chain", edges[:1], edges[1:]), opset_imports=[make_opsetid("", 20)], ir_version=10
        ).SerializeToString()
    )


def call() -> GraphCall:
    return GraphCall(inputs={"v0": np.full((SIDE, SIDE), -1, np.float32)}, outputs={})


def test_every_value_past_the_limit_is_named_with_its_magnitude(tmp_path: Path) -> None:
    write_chain(tmp_path / "chain.onnx", 18)
    assert find_overflow(tmp_path / "chain.onnx", [call()]) == {f"v{index}": 2.0**index for index in (14, 15, 16, 17)}


def measure_peak_mib(path: Path) -> int:
    """Peak memory of a new process that runs `find_overflow`, in MiB."""
    code = (
        "import sys\nfrom pathlib import Path\nfrom tests.export.test_ranges import call\n"
        "from alterbute_export.half.overflow import find_overflow\n"
        "find_overflow(Path(sys.argv[1]), [call()])\nprint(Path('/proc/self/status').read_text())"
    )
    status = subprocess.run([sys.executable, "-c", code, str(path)], check=True, capture_output=True, text=True).stdout
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM:")) // 1024


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the system does not report a process's peak memory")
def test_memory_does_not_grow_with_the_number_of_values(tmp_path: Path) -> None:
    peaks = []
    for layers in (4, LAYERS):
        write_chain(tmp_path / "chain.onnx", layers)
        peaks.append(measure_peak_mib(tmp_path / "chain.onnx"))
    # Each value takes 4 MiB: keeping all of them would take 144 MiB more.
    assert peaks[1] - peaks[0] < 40
