"""What several test packages share: one tiny exported bundle, made once and kept between runs."""

from __future__ import annotations

import hashlib
import shutil
from importlib.metadata import version
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# Whatever could change the bundle's bytes: a change in any of it makes the bundle anew.
SOURCES = ("export/alterbute_export/**/*.py", "runtime/alterbute/bundle/*.py", "runtime/alterbute/solver/*.py", "tests/support/checkpoints.py")
PRODUCERS = ("torch", "diffusers", "transformers", "onnx", "onnxscript", "onnxruntime")


@pytest.fixture(scope="session")
def tiny_bundle(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real bundle of the demo's layout with random weights; exporting it takes about a minute, so it is cached."""
    assert request.config.cache is not None
    cache = request.config.cache.mkdir("alterbute-bundles")
    folder = cache / _fingerprint()
    if not (folder / "manifest.json").is_file():
        from alterbute_export.bundle import export_bundle

        from tests.support.checkpoints import make_checkpoint

        for outdated in cache.iterdir():
            shutil.rmtree(outdated)
        export_bundle(make_checkpoint(tmp_path_factory.mktemp("checkpoints") / "tiny"), folder)
    return folder


def _fingerprint() -> str:
    digest = hashlib.sha256(repr([(name, version(name)) for name in PRODUCERS]).encode())
    for pattern in SOURCES:
        for path in sorted(ROOT.glob(pattern)):
            digest.update(f"\0{path.relative_to(ROOT)}\0".encode() + path.read_bytes())
    return digest.hexdigest()[:16]
