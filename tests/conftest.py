"""What several test packages share: tiny exported bundles, made once and kept between runs."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import pytest

from tests.support.kept import keep

ROOT = Path(__file__).parents[1]
# Whatever could change the bundle's bytes: a change in any of it makes the bundle anew.
SOURCES = (
    "export/alterbute_export/**/*.py",
    "runtime/alterbute/bundle/*.py",
    "runtime/alterbute/solver/*.py",
    "tests/support/checkpoints.py",
)
FamilyFolder = Callable[[str], Path]
# What a test needs decides its marker, so that `make check` can leave out what takes long: by folder, or by a fixture.
FOLDER_MARKERS = {"cpp": "cpp", "engines": "engines", "export": "export"}
EXPORT_FIXTURES = {"tiny_bundle", "family_cache"}
PRODUCERS = ("torch", "diffusers", "transformers", "onnx", "onnxscript", "onnxruntime")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark every test with what it needs: an export, TensorRT engines, or a C++ build."""
    for item in items:
        folder = item.path.relative_to(ROOT / "tests").parts[0]
        if folder in FOLDER_MARKERS:
            item.add_marker(FOLDER_MARKERS[folder])
        if EXPORT_FIXTURES & set(getattr(item, "fixturenames", ())):
            item.add_marker("export")


@pytest.fixture(scope="session")
def tiny_bundle(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real bundle of the demo's layout with random weights; exporting it takes about a minute, so it is cached."""

    def make(folder: Path) -> None:
        from alterbute_export.export_bundle import export_bundle

        from tests.support.checkpoints import make_checkpoint

        export_bundle(make_checkpoint(tmp_path_factory.mktemp("checkpoints") / "tiny"), folder)

    return keep(kept_folder(request, "bundles") / "tiny", "manifest.json", make)


@pytest.fixture(scope="session")
def family_cache(request: pytest.FixtureRequest) -> Path:
    """What was exported of the families with the same sources; a change of any makes all anew."""
    return kept_folder(request, "families")


@pytest.fixture(scope="session")
def family_checkpoint(family_cache: Path) -> FamilyFolder:
    """The tiny checkpoint of a kind, as of `alterbute_export.sample_checkpoints`."""

    def make(kind: str) -> Path:
        from tests.support.checkpoints import make_checkpoint

        return keep(
            family_cache / "checkpoints" / kind, "model_index.json", lambda folder: make_checkpoint(folder, kind)
        )

    return make


@pytest.fixture(scope="session")
def family_bundle(family_cache: Path, family_checkpoint: FamilyFolder) -> FamilyFolder:
    """The whole bundle of a kind."""

    def make(kind: str) -> Path:
        from alterbute_export.export_bundle import export_bundle

        source = family_checkpoint(kind)
        return keep(family_cache / "bundles" / kind, "manifest.json", lambda folder: export_bundle(source, folder))

    return make


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
