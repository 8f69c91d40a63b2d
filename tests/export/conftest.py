"""Tiny checkpoints and their bundles for all tests here, made once and kept between runs; nothing changes them."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnxruntime
import pytest
from alterbute.bundle import WEIGHTS_FILE, Manifest, read_manifest

from tests.conftest import _fingerprint as fingerprint
from tests.support.checkpoints import make_checkpoint

FamilyFolder = Callable[[str], Path]


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_checkpoint(tmp_path_factory.mktemp("checkpoints") / "tiny")


@pytest.fixture(scope="session")
def family_cache(request: pytest.FixtureRequest) -> Path:
    """What was exported of the families with the same sources; a change of any makes all anew."""
    assert request.config.cache is not None
    cache = request.config.cache.mkdir("alterbute-families")
    for outdated in cache.iterdir():
        if outdated.name != fingerprint():
            shutil.rmtree(outdated)
    folder = cache / fingerprint()
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def family_checkpoint(family_cache: Path) -> FamilyFolder:
    """The tiny checkpoint of a kind, as of `alterbute_export.maker`."""

    def make(kind: str) -> Path:
        folder = family_cache / "checkpoints" / kind
        return folder if (folder / "model_index.json").is_file() else make_checkpoint(folder, kind)

    return make


@pytest.fixture(scope="session")
def family_bundle(family_cache: Path, family_checkpoint: FamilyFolder) -> FamilyFolder:
    """The whole bundle of a kind."""

    def make(kind: str) -> Path:
        from alterbute_export.bundle import export_bundle

        folder = family_cache / "bundles" / kind
        if not (folder / "manifest.json").is_file():
            export_bundle(family_checkpoint(kind), folder)
        return folder

    return make


@pytest.fixture(scope="session")
def family_step(family_cache: Path, family_checkpoint: FamilyFolder) -> FamilyFolder:
    """A folder with the step graph of a kind and its weights: that of the bundle, where there is one."""

    def make(kind: str) -> Path:
        from alterbute_export.bundle import load_models
        from alterbute_export.checkpoint import read_checkpoint
        from alterbute_export.families import build_family
        from alterbute_export.onnx_file import write_graph
        from alterbute_export.weights import WeightStore

        whole, folder = family_cache / "bundles" / kind, family_cache / "steps" / kind
        if (whole / "manifest.json").is_file():
            return whole
        if not (folder / "step.onnx").is_file():
            folder.mkdir(parents=True)
            read = read_checkpoint(family_checkpoint(kind))
            write_graph(build_family(read, load_models(read)).step, WeightStore(folder, half=True))
        return folder

    return make


@pytest.fixture(scope="session")
def bundle(tiny_bundle: Path) -> Path:
    """The export of `checkpoint`: the maker writes the same weights every time."""
    return tiny_bundle


@pytest.fixture(scope="session")
def manifest(bundle: Path) -> Manifest:
    return read_manifest(bundle)


@pytest.fixture(scope="session")
def step(bundle: Path) -> Any:
    return open_graph(bundle, "step")


def open_graph(bundle: Path, name: str) -> Any:
    """A session over the bytes of one graph and of the weights, as the runtime opens it."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    weights = (bundle / WEIGHTS_FILE).read_bytes()
    options.add_external_initializers_from_files_in_memory([WEIGHTS_FILE], [weights], [len(weights)])
    return onnxruntime.InferenceSession((bundle / f"{name}.onnx").read_bytes(), options)
