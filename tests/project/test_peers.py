"""Benchmarks against peers: contenders agree, and an interrupted run resumes with results of the same settings only."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from alterbute.bundle import open_bundle

from benchmarks.common import tables
from benchmarks.peers import measure_edit, measure_step
from benchmarks.peers.edit_contenders import EDITS, open_contender
from benchmarks.peers.inputs import EditInputs, make_inputs
from benchmarks.peers.processes import ProcessResult, run_process
from benchmarks.peers.step_contenders import make_step
from tests.conftest import FamilyFolder

pytestmark = [
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:diffusers"),
]
KIND = "sd15-adapter"
SIDE = 16
OPENVINO = pytest.mark.skipif(importlib.util.find_spec("openvino") is None, reason="openvino is not installed")
CONTENDERS = [pytest.param("alterbute"), pytest.param("openvino", marks=OPENVINO)]


@pytest.fixture(scope="module")
def inputs(family_bundle: FamilyFolder, tmp_path_factory: pytest.TempPathFactory) -> EditInputs:
    path = tmp_path_factory.mktemp("inputs") / "inputs.npz"
    make_inputs(open_bundle(family_bundle(KIND))).save(path)
    return EditInputs.load(path)


@pytest.mark.parametrize("kind", CONTENDERS)
def test_a_whole_edit_equals_that_of_diffusers(
    kind: str, inputs: EditInputs, family_bundle: FamilyFolder, family_checkpoint: FamilyFolder
) -> None:
    expected = open_contender("diffusers", family_bundle(KIND), family_checkpoint(KIND), 1).edit(inputs, 4)
    edit = open_contender(kind, family_bundle(KIND), family_checkpoint(KIND), 1).edit(inputs, 4)
    assert np.abs(edit.latent - expected.latent).max() <= 1e-5 * np.abs(expected.latent).max()
    painted = edit.alpha == 255
    assert painted.any() and not painted.all()
    assert np.abs(edit.picture[painted].astype(int) - expected.picture[painted]).max() <= 1
    for measured in (edit, expected):
        parts = [measured.seconds[part] for part in ("encode", "steps", "decode")]
        assert min(parts) > 0
        assert sum(parts) <= measured.seconds["whole"]


@pytest.mark.parametrize("kind", ["alterbute", "decomposed", pytest.param("openvino-fixed", marks=OPENVINO)])
def test_a_step_equals_that_of_diffusers(
    kind: str, family_bundle: FamilyFolder, family_checkpoint: FamilyFolder
) -> None:
    folders = family_bundle(KIND), family_checkpoint(KIND)
    expected, output = (np.asarray(make_step(contender, *folders, SIDE, 1)()) for contender in ("diffusers", kind))
    assert np.abs(output - expected).max() <= 1e-5 * np.abs(expected).max()


def test_a_process_that_fails_returns_the_reason() -> None:
    reason = run_process("benchmarks.peers.measure_step", ["--nonsense"])
    assert isinstance(reason, str) and "the following arguments are required" in reason


class FakeProcesses:
    """Replacement of `run_process`: `measured` lists the contenders that ran, `broken` those that fail."""

    def __init__(self, work: Path) -> None:
        self.measured: list[str] = []
        self.broken: set[str] = set()
        self._work = work

    def __call__(self, program: str, arguments: Sequence[str]) -> ProcessResult | str:
        kind = arguments[arguments.index("--turn") + 1]
        self.measured.append(kind)
        if kind in self.broken:
            return "exit 1: out of memory"
        steps_s = {"diffusers": 10.0, "alterbute": 8.0, "openvino": 9.0}[kind]
        latent = np.ones((4, 2, 2), np.float32) * (1 if kind == "diffusers" else 1 + 1e-3)
        pixels = np.full((4, 4, 3), 100 if kind == "diffusers" else 101, np.uint8)
        np.savez(self._work / f"{kind}.npz", latent=latent, picture=pixels, alpha=np.full((4, 4), 255, np.uint8))
        seconds = {"whole": steps_s + 2, "encode": 1.0, "steps": steps_s, "decode": 1.0}
        return {
            "load_s": 1.0,
            "warm_up_s": 1.0,
            "seconds": seconds,
            "peak_bytes": 10**9,
            "packages": {},
            "load_before": 0.1,
        }


def run(
    monkeypatch: pytest.MonkeyPatch, processes: FakeProcesses, out: Path, work: Path, bundle: Path, *options: str
) -> dict[str, Any]:
    """Run `measure_edit` with fake processes; returns the only entry of its result file."""
    monkeypatch.setattr(measure_edit, "run_process", processes)
    paths = ("--bundle", str(bundle), "--checkpoint", "none", "--out", str(out), "--work", str(work))
    monkeypatch.setattr("sys.argv", ["measure_edit", *paths, *options])
    measure_edit.main()
    (entry,) = json.loads(out.read_text(encoding="utf-8")).values()
    results: dict[str, Any] = entry
    return results


def test_a_run_resumes_where_the_last_one_stopped(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, family_bundle: FamilyFolder
) -> None:
    processes, bundle = FakeProcesses(tmp_path), family_bundle(KIND)
    processes.broken = {"openvino"}
    first = run(monkeypatch, processes, tmp_path / "out.json", tmp_path, bundle, "--limit", "2")
    assert processes.measured == ["diffusers", "alterbute"]
    assert first["contenders"]["alterbute"]["compared"] == {"latent_error": 1e-3, "pixels_off": 1.0, "pixel_max": 1}
    broken = run(monkeypatch, processes, tmp_path / "out.json", tmp_path, bundle, "--limit", "1")
    assert broken["failed"] == {"openvino": "exit 1: out of memory"}
    processes.broken = set()
    whole = run(monkeypatch, processes, tmp_path / "out.json", tmp_path, bundle)
    assert processes.measured[2:] == ["openvino", "openvino", "diffusers", "alterbute", "openvino"]
    assert whole["failed"] == {}
    assert {kind: len(row["turns"]) for kind, row in whole["contenders"].items()} == dict.fromkeys(EDITS, 2)
    assert whole["contenders"]["alterbute"]["speed"] == {"whole": 1.2, "encode": 1.0, "steps": 1.25, "decode": 1.0}
    again = run(
        monkeypatch, processes, tmp_path / "out.json", tmp_path, bundle, "--again", "alterbute", "--rounds", "1"
    )
    assert processes.measured[7:] == ["alterbute"] and len(again["contenders"]["alterbute"]["turns"]) == 1
    assert "`alterbute` is 1.10x as fast as `openvino`" in tables.peers_edit({"tiny": whole})


def test_results_with_another_number_of_steps_need_another_name(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, family_bundle: FamilyFolder
) -> None:
    processes = FakeProcesses(tmp_path)
    run(monkeypatch, processes, tmp_path / "out.json", tmp_path, family_bundle(KIND), "--name", "a", "--limit", "1")
    with pytest.raises(SystemExit, match="give another --name"):
        run(monkeypatch, processes, tmp_path / "out.json", tmp_path, family_bundle(KIND), "--name", "a", "--steps", "3")


def test_tables_report_failed_contenders_and_other_environments() -> None:
    result = {"wall_s": [2.0, 2.0], "cpu_s": [2.0], "peak_bytes": 10**9, "relative_error": 0.0}
    optimum_result = {**result, "wall_s": [4.0], "relative_error": 0.05, "packages": {"diffusers": "0.1"}}
    rows = measure_step.summarise({"diffusers": [result], "optimum": [optimum_result], "openvino": []})
    assert (rows["optimum"]["speed"], rows["optimum"]["relative_error"]) == (0.5, 0.05)
    machine = {"processor": "P", "cpus": 2, "load_before": 0.1, "packages": {}, "commit": "c"}
    text = tables.peers(
        {"tiny": {"contenders": rows, "failed": {"openvino": "exit 1: no such module"}, "machine": machine}}
    )
    assert "`openvino` did not run: exit 1: no such module" in text
    assert "`optimum` ran in an environment of its own: diffusers 0.1." in text
