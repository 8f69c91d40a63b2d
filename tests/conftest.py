"""Fixtures of several test packages: tiny exported bundles, built once and cached between runs."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.cached_build import build_once
from tests.support.cuda_standin import open_standin

if TYPE_CHECKING:
    from tests.cuda.harness import StandIn

ROOT = Path(__file__).parents[1]
# Sources that determine the bundles' bytes: a change in any of them rebuilds the bundles.
SOURCES = (
    "export/alterbute_export/**/*.py",
    "runtime/alterbute/bundle/*.py",
    "runtime/alterbute/solver/*.py",
    "tests/support/checkpoints.py",
    "tests/support/deep_steps.py",
)
FamilyFolder = Callable[[str], Path]
# Markers of slow tests, which `make check` leaves out; set by the test's folder, or by a fixture that it uses.
FOLDER_MARKERS = {"cpp": "cpp", "engines": "engines", "export": "export"}
EXPORT_FIXTURES = {"tiny_bundle", "family_cache"}
PRODUCERS = ("torch", "diffusers", "transformers", "onnx", "onnxscript", "onnxruntime")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark every test that needs an export, TensorRT engines or a C++ build."""
    for item in items:
        folder = item.path.relative_to(ROOT / "tests").parts[0]
        if folder in FOLDER_MARKERS:
            item.add_marker(FOLDER_MARKERS[folder])
        if EXPORT_FIXTURES & set(getattr(item, "fixturenames", ())):
            item.add_marker("export")


@pytest.fixture(scope="session")
def tiny_bundle(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real bundle with the demo's layout and random weights; the export takes about a minute and is cached."""

    def make(folder: Path) -> None:
        from alterbute_export.export_bundle import export_bundle

        from tests.support.checkpoints import make_checkpoint

        export_bundle(make_checkpoint(tmp_path_factory.mktemp("checkpoints") / "tiny"), folder)

    return build_once(cache_folder(request, "bundles") / "tiny", "manifest.json", make)


@pytest.fixture(scope="session")
def standin(request: pytest.FixtureRequest) -> StandIn:
    """The stand-in of CUDA, on which programs run ONNX Runtime's CUDA provider without a GPU (tests/cuda/README.md)."""
    return open_standin(request.config)


@pytest.fixture(scope="session")
def cuda_bundle(request: pytest.FixtureRequest, standin: StandIn, tiny_bundle: Path) -> Path:
    """The tiny bundle with fp16 variants, those made for CUDA among them; for tests over the stand-in, which it needs."""

    def make(folder: Path) -> None:
        from tests.support.half_bundle import write_half_bundle

        write_half_bundle(tiny_bundle, folder)

    return build_once(cache_folder(request, "cuda-bundles") / "tiny", "manifest.json", make)


@pytest.fixture(scope="session")
def family_cache(request: pytest.FixtureRequest) -> Path:
    """Folder of the checkpoints and bundles of all families, for the current sources."""
    return cache_folder(request, "families")


@pytest.fixture(scope="session")
def family_checkpoint(family_cache: Path) -> FamilyFolder:
    """Path of the tiny checkpoint of a kind, from `alterbute_export.sample_checkpoints`."""

    def make(kind: str) -> Path:
        from tests.support.checkpoints import make_checkpoint

        return build_once(
            family_cache / "checkpoints" / kind, "model_index.json", lambda folder: make_checkpoint(folder, kind)
        )

    return make


@pytest.fixture(scope="session")
def family_bundle(family_cache: Path, family_checkpoint: FamilyFolder) -> FamilyFolder:
    """Path of the tiny bundle of a kind."""

    def make(kind: str) -> Path:
        from alterbute_export.export_bundle import export_bundle

        source = family_checkpoint(kind)
        return build_once(
            family_cache / "bundles" / kind, "manifest.json", lambda folder: export_bundle(source, folder)
        )

    return make


def cache_folder(request: pytest.FixtureRequest, name: str) -> Path:
    """Cache folder for builds of the current sources; those of older sources are removed."""
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
