"""What several test packages share: one tiny exported bundle, made once and kept between runs."""

from __future__ import annotations

import hashlib
import shutil
from importlib.metadata import version
from pathlib import Path

import pytest

from tests.support.kept import keep

ROOT = Path(__file__).parents[1]
# Whatever could change the bundle's bytes: a change in any of it makes the bundle anew.
SOURCES = ("export/alterbute_export/**/*.py", "runtime/alterbute/bundle/*.py", "runtime/alterbute/solver/*.py", "tests/support/checkpoints.py")
PRODUCERS = ("torch", "diffusers", "transformers", "onnx", "onnxscript", "onnxruntime")


@pytest.fixture(scope="session")
def tiny_bundle(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real bundle of the demo's layout with random weights; exporting it takes about a minute, so it is cached."""

    def make(folder: Path) -> None:
        from alterbute_export.bundle import export_bundle

        from tests.support.checkpoints import make_checkpoint

        export_bundle(make_checkpoint(tmp_path_factory.mktemp("checkpoints") / "tiny"), folder)

    return keep(kept_folder(request, "bundles") / "tiny", "manifest.json", make)


def kept_folder(request: pytest.FixtureRequest, name: str) -> Path:
    """Where things of this kind are kept that were made by these very sources; those of older sources are removed."""
    assert request.config.cache is not None
    cache = request.config.cache.mkdir(f"alterbute-{name}")
    folder = cache / _fingerprint()
    for outdated in cache.iterdir():
        if outdated != folder:
            shutil.rmtree(outdated, ignore_errors=True)
    folder.mkdir(exist_ok=True)
    return folder


def _fingerprint() -> str:
    digest = hashlib.sha256(repr([(name, version(name)) for name in PRODUCERS]).encode())
    for pattern in SOURCES:
        for path in sorted(ROOT.glob(pattern)):
            digest.update(f"\0{path.relative_to(ROOT)}\0".encode() + path.read_bytes())
    return digest.hexdigest()[:16]
