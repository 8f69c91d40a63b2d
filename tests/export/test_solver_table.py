"""The bundle's solver table: equal to the solver code's output to the bit, and refused when it is damaged."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from alterbute.bundle import open_bundle
from alterbute.errors import BundleError, InputError
from alterbute.solver import SOLVERS, SPACINGS, compile_trajectory
from alterbute.solver.solver_table import TrajectoryTable, read_table
from alterbute_export.checkpoint.reader import _read_scheduler
from alterbute_export.packaging.solver_table import MAX_STEPS, TABLE_FILE, write_solver_table
from diffusers import DPMSolverMultistepScheduler
from safetensors.numpy import load_file

CONFIG: dict[str, Any] = {
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "prediction_type": "v_prediction",
}
LIMIT_BYTES = 700_000


@pytest.fixture(scope="module", params=SPACINGS)
def table(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> TrajectoryTable:
    folder = tmp_path_factory.mktemp("table")
    assert write_solver_table(folder, CONFIG, request.param).solvers == tuple(SOLVERS)
    return read_table((folder / TABLE_FILE).read_bytes())


@pytest.mark.parametrize("solver", SOLVERS)
def test_the_table_equals_the_solver_codes_output_to_the_bit(table: TrajectoryTable, solver: str) -> None:
    for steps in range(1, MAX_STEPS + 1):
        written = table.compile_trajectory(solver, steps)
        computed = compile_trajectory(CONFIG, solver, steps, spacing=table.spacing)
        for part in ("timestep", "matrix", "level", "start"):
            rounded = getattr(computed, part).astype(np.float32)
            assert np.array_equal(getattr(written, part).astype(np.float32), rounded), (steps, part)


def test_table_is_small_and_the_safetensors_library_reads_it(tmp_path: Path) -> None:
    write_solver_table(tmp_path, CONFIG, "trailing")
    path = tmp_path / TABLE_FILE
    assert path.stat().st_size < LIMIT_BYTES
    tensors, expected_tensors = read_table(path.read_bytes()).tensors, load_file(path)
    assert tensors.keys() == expected_tensors.keys()
    assert all(np.array_equal(tensors[name], expected_tensors[name]) for name in expected_tensors)


def test_same_config_gives_the_same_bytes(tmp_path: Path) -> None:
    files = []
    for _ in range(2):
        write_solver_table(tmp_path, CONFIG, "leading")
        files.append((tmp_path / TABLE_FILE).read_bytes())
    assert files[0] == files[1]


def test_a_bundle_has_the_table_of_its_own_scheduler(bundle: Path) -> None:
    opened = open_bundle(bundle)
    entry = opened.manifest.solver_table
    assert entry is not None
    table = read_table(opened.read(entry.file))
    assert (table.solvers, table.max_steps, table.spacing) == (entry.solvers, entry.max_steps, entry.spacing)
    assert entry.spacing == opened.manifest.defaults.spacing
    computed = compile_trajectory(opened.manifest.scheduler, "unipc", 7, spacing=entry.spacing)
    assert np.array_equal(table.compile_trajectory("unipc", 7).matrix, computed.matrix.astype(np.float32))


def test_a_solver_that_does_not_support_the_config_is_left_out(tmp_path: Path) -> None:
    assert write_solver_table(tmp_path, {**CONFIG, "predict_x0": False}, "trailing").solvers == tuple(
        solver for solver in SOLVERS if solver != "unipc"
    )
    read_table((tmp_path / TABLE_FILE).read_bytes())
    with pytest.raises(BundleError, match="clip_sample"):
        write_solver_table(tmp_path, {**CONFIG, "clip_sample": True}, "trailing")


def test_the_config_that_diffusers_saves_for_dpm_solver_can_be_bundled(tmp_path: Path) -> None:
    DPMSolverMultistepScheduler(**CONFIG).save_pretrained(tmp_path / "scheduler")
    assert "-Infinity" in (tmp_path / "scheduler" / "scheduler_config.json").read_text()
    config = _read_scheduler(tmp_path)
    json.dumps(config, allow_nan=False)
    assert write_solver_table(tmp_path, config, "linspace").solvers == tuple(SOLVERS)


def test_a_step_count_that_cannot_be_done_is_an_empty_range(tmp_path: Path) -> None:
    write_solver_table(tmp_path, {**CONFIG, "num_train_timesteps": 20}, "trailing")
    table = read_table((tmp_path / TABLE_FILE).read_bytes())
    offset = table.tensors["ddim.offset"]
    assert offset[20] == offset[50] == len(table.tensors["ddim.timestep"])
    with pytest.raises(InputError, match="steps is 21"):
        table.compile_trajectory("ddim", 21)
    with pytest.raises(InputError, match="rk45"):
        table.compile_trajectory("rk45", 4)


def test_a_damaged_table_is_refused(tmp_path: Path) -> None:
    write_solver_table(tmp_path, CONFIG, "trailing")
    good = (tmp_path / TABLE_FILE).read_bytes()
    size = int.from_bytes(good[:8], "little")
    body = np.frombuffer(good[8 + size :], np.uint8).copy()
    body[-4:] = np.frombuffer(np.float32("nan").tobytes(), np.uint8)
    damaged = {
        "empty": b"",
        "cut": good[:-1],
        "longer": good + b"\0",
        "header out of the file": (2**63).to_bytes(8, "little") + good[8:],
        "no JSON": good[:8] + b"?" + good[9:],
        "another version": good.replace(b'"version":"1"', b'"version":"2"'),
        "another K": good.replace(b'"state_rows":"4"', b'"state_rows":"8"'),
        "a missing solver": good.replace(b"ddim euler", b"ddim rk4us"),
        "another type": good.replace(b'"dtype":"I64"', b'"dtype":"F64"', 1),
        "another shape": good.replace(b'"shape":[51]', b'"shape":[52]', 1),
        "shifted": good.replace(b'"data_offsets":[0,', b'"data_offsets":[1,', 1),
        "not a number": good[: 8 + size] + body.tobytes(),
        "a falling offset": good[: 8 + size] + b"\x01" + good[9 + size :],
    }
    for name, data in damaged.items():
        assert data != good, name
        with pytest.raises(BundleError, match="solver table"):
            read_table(data)
            pytest.fail(name)
