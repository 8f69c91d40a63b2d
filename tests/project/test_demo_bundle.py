"""The committed demo bundle is the export of the committed checkpoint, with the size and parity that README states."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from alterbute.bundle import verify_bundle

ROOT = Path(__file__).parents[2]
BUNDLE, CHECKPOINT = ROOT / "engines" / "demo", ROOT / "demo" / "checkpoint"


def test_demo_bundle_verifies_and_is_at_most_16_megabytes() -> None:
    verify_bundle(BUNDLE)
    assert sum(path.stat().st_size for path in BUNDLE.rglob("*") if path.is_file()) <= 16 * 2**20


def test_every_demo_graph_matches_torch_to_1e_5() -> None:
    graphs = json.loads((BUNDLE / "manifest.json").read_text())["graphs"]
    figures = {
        name: graphs[name]["parity"]["relative_error"] for name in ("prompt", "identity", "scene", "step", "decode")
    }
    assert max(figures.values()) <= 1e-5, figures


@pytest.mark.export
def test_the_committed_bundle_is_the_export_of_the_committed_checkpoint(tmp_path: Path) -> None:
    out = tmp_path / "bundle"
    command = [sys.executable, "-m", "alterbute_export", "bundle", str(CHECKPOINT), "-o", str(out)]
    completed = subprocess.run(command, capture_output=True, text=True, check=False)
    assert completed.returncode == 0, completed.stderr[-2000:]
    committed, exported = (json.loads((folder / "manifest.json").read_text()) for folder in (BUNDLE, out))
    if committed["producer"] != exported["producer"]:
        pytest.skip(
            f"exported by {exported['producer']}, committed by {committed['producer']}: bytes agree for equal versions only"
        )
    assert exported["files"] == committed["files"]
