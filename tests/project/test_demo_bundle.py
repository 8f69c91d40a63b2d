"""The committed demo bundle is what the committed checkpoint exports to, and it is what README says it is."""

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
def test_committed_bundle_is_what_the_committed_checkpoint_exports_to(tmp_path: Path) -> None:
    out = tmp_path / "bundle"
    command = [sys.executable, "-m", "alterbute_export", "bundle", str(CHECKPOINT), "-o", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    ours, fresh = (json.loads((folder / "manifest.json").read_text()) for folder in (BUNDLE, out))
    if ours["producer"] != fresh["producer"]:
        pytest.skip(
            f"exported by {fresh['producer']}, committed by {ours['producer']}: bytes are promised for equal versions"
        )
    assert fresh["files"] == ours["files"]
