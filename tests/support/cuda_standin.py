"""The stand-in of CUDA, compiled once and cached; tests that need it skip with a reason where it cannot be had."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import pytest

from tests.cuda.build import SOURCES, build_libraries
from tests.cuda.harness import StandIn
from tests.cuda.wheels import CudaWheels, find_wheels
from tests.support.cached_build import build_once


def open_standin(config: pytest.Config) -> StandIn:
    """The stand-in of CUDA; skips the test where its wheels or a compiler are missing."""
    wheels = find_wheels()
    if isinstance(wheels, str):
        pytest.skip(wheels)
    assert config.cache is not None
    cache = config.cache.mkdir("alterbute-cuda")
    folder = cache / _fingerprint(wheels)
    for outdated in cache.iterdir():
        if outdated != folder and outdated.is_dir():
            shutil.rmtree(outdated, ignore_errors=True)
    build_once(folder, "built", lambda target: build_libraries(target, wheels.include, wheels.provider))
    return StandIn(libraries=folder, wheels=wheels)


def _fingerprint(wheels: CudaWheels) -> str:
    digest = hashlib.sha256(repr(sorted(path.name for path in wheels.folder.glob("*/*.dist-info"))).encode())
    for path in (*sorted(SOURCES.iterdir()), Path(build_libraries.__code__.co_filename)):
        if path.suffix in {".cpp", ".h", ".py"}:
            digest.update(f"\0{path.name}\0".encode() + path.read_bytes())
    return digest.hexdigest()[:16]
