"""Tiny bundles to build engines of."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path

import pytest

RECIPES = Path(__file__).parents[2] / "engines" / "recipes"


@pytest.fixture
def copy(tiny_bundle: Path, tmp_path: Path) -> Path:
    """A copy of the tiny bundle that a test may change."""
    shutil.copytree(tiny_bundle, tmp_path / "bundle")
    return tmp_path / "bundle"


def need_rtx() -> None:
    """Skip, with the reason, where the builder that needs no GPU is not installed."""
    if importlib.util.find_spec("tensorrt_rtx") is None:
        pytest.skip("tensorrt_rtx is not installed (pip install 'alterbute[rtx]')")
