"""Benchmarks: facts about the machine, tables generated from results, and short runs of the programs."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from alterbute.bundle import open_bundle

from benchmarks import fidelity, latency, memory, overhead
from benchmarks.common import machine, tables
from benchmarks.common.results_file import RESULTS, update_results
from benchmarks.common.timing import draw_scene, summary_ms
from benchmarks.photos import photo_size

FOLDER = tables.README.parent
PROGRAMS = sorted(re.findall(r"^\| [^|]+ \| `([\w.]+)` \|", tables.README.read_text(encoding="utf-8"), re.MULTILINE))
GENERATED = sorted(path for path in RESULTS.glob("*.json") if path.stem in tables.SECTIONS)
FACTS = {"processor", "cpus", "memory_gib", "load_before", "system", "python", "packages", "commit"}


def test_the_readmes_tables_match_the_results() -> None:
    text = tables.README.read_text(encoding="utf-8")
    assert tables.fill(text) == text, "run `python -m benchmarks.common.tables`"
    assert set(re.findall(r"<!-- table: (\w+) -->", text)) == set(tables.SECTIONS)


def test_a_missing_result_is_shown_as_not_measured(tmp_path: Path) -> None:
    text = tables.README.read_text(encoding="utf-8")
    assert tables.fill(text, tmp_path).count("Not measured yet.") == len(tables.SECTIONS)


def test_the_error_names_an_unknown_table() -> None:
    with pytest.raises(SystemExit, match="no table 'speed'"):
        tables.fill("<!-- table: speed -->\n<!-- end -->")


@pytest.mark.parametrize("path", GENERATED, ids=lambda path: path.stem)
def test_every_entry_records_its_machine(path: Path) -> None:
    document = json.loads(path.read_text(encoding="utf-8"))
    for entry in [document] if "machine" in document else document.values():
        assert entry["machine"].keys() == FACTS


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_of_the_readme_exists_and_uses_the_shared_machine_facts(name: str) -> None:
    text = (FOLDER / f"{name.replace('.', '/')}.py").read_text(encoding="utf-8")
    assert not re.findall(
        r"^import platform|cpu_count|getloadavg|/proc/cpuinfo|sched_getaffinity|importlib.metadata", text, re.MULTILINE
    )
    assert re.search(r"from benchmarks\.(common\.machine|gpu\.gpu_machine) import", text)


def test_machine_facts_list_installed_packages_only() -> None:
    facts = machine.machine_facts("numpy", "no-such-package")
    assert facts.keys() == FACTS
    assert facts["packages"] == {"numpy": np.__version__}
    assert facts["cpus"] >= 1


def test_an_update_replaces_only_the_entry_of_that_name(tmp_path: Path) -> None:
    out = tmp_path / "new" / "latency.json"
    for name, value in (("a", 1), ("b", 2), ("a", 3)):
        update_results(out, name, {"value": value})
    assert json.loads(out.read_text()) == {"a": {"value": 3}, "b": {"value": 2}}


def test_summary_has_percentiles_minimum_and_mean_in_milliseconds() -> None:
    summary = summary_ms([value / 1000 for value in range(101)])
    assert summary == {"p50_ms": 50.0, "p90_ms": 90.0, "p99_ms": 99.0, "min_ms": 0.0, "mean_ms": 50.0, "n": 101}


def test_a_drawn_object_covers_the_requested_share() -> None:
    pixels, mask = draw_scene(300, 400, 0.05)
    assert pixels.shape == (300, 400, 3)
    assert abs((mask > 0).mean() - 0.05) < 0.002


def test_programs_measure_a_small_bundle_and_their_tables_have_its_figures(
    tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    times = latency.measure(tiny_bundle, steps=2, runs=2, warm_up=1, threads=1)
    assert times["second_edit"]["graph_runs"] == {"step": 2, "decode": 1, "paste": 1}
    assert times["graphs"]["step"]["n"] == 4
    host = overhead.measure(tiny_bundle, steps=2, runs=2, warm_up=1, threads=1, profile=False)
    assert 0 < host["second_edit"]["share"] < 1
    monkeypatch.setattr(photo_size, "SIZES", {"12 MP": (300, 400)})
    monkeypatch.setattr(photo_size, "BASE", (128, 128))
    sizes = photo_size.measure(tiny_bundle, steps=1, rounds=1, warm_up=0, threads=1, cases="")
    assert sizes["cases"]["base"]["ratio"] == 1
    assert len(sizes["cases"]) == 3

    assert "graph `step`" in tables.latency({"tiny": times})
    assert "first edit" in tables.overhead({"tiny": host})
    assert "12 MP" in tables.photo_size({"tiny": sizes})


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peaks are read from Linux's /proc")
def test_memory_peaks_are_those_of_fresh_processes(tiny_bundle: Path) -> None:
    peaks = memory.measure(tiny_bundle, None, 1, ("libraries", "step"))
    assert peaks["step"]["peak_mb"] > peaks["libraries"]["peak_mb"] > 10


def test_fidelity_compares_latents_and_pixels_and_fails_on_a_changed_background(tiny_bundle: Path) -> None:
    bundle = open_bundle(tiny_bundle)
    edits = fidelity.run_edits(bundle, 2, 1, 1)
    unchanged: dict[str, Any] = fidelity.compare(edits, edits)
    assert (unchanged["latent_max"], unchanged["psnr_db_worst"], unchanged["edits"]) == (0, 99.0, 2)
    latent, picture, alpha = edits[0]
    changed_inside = picture.copy()
    changed_inside[alpha > 0] ^= 8
    changed = fidelity.compare([(latent * 1.01, changed_inside, alpha)], edits[:1])
    assert changed["latent_max"] == pytest.approx(0.01, rel=1e-2)
    assert 20 < changed["psnr_db_worst"] < 40
    changed_outside = picture.copy()
    changed_outside[np.argwhere(alpha == 0)[0][0], np.argwhere(alpha == 0)[0][1]] ^= 1
    with pytest.raises(SystemExit, match="outside the mask"):
        fidelity.compare([(latent, changed_outside, alpha)], edits[:1])
