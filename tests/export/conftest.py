"""Tiny checkpoints and their bundles for all tests here, made once and kept between runs; nothing changes them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnxruntime
import pytest
from alterbute.bundle import WEIGHTS_FILE, Manifest, read_manifest

from tests.conftest import FamilyFolder
from tests.support.checkpoints import make_checkpoint
from tests.support.kept import keep


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_checkpoint(tmp_path_factory.mktemp("checkpoints") / "tiny")


@pytest.fixture(scope="session")
def family_step(family_cache: Path, family_checkpoint: FamilyFolder) -> FamilyFolder:
    """A folder with the step graph of a kind and its weights: that of the bundle, where there is one."""

    def make(kind: str) -> Path:
        from alterbute_export.checkpoint.reader import read_checkpoint
        from alterbute_export.export_bundle import load_models
        from alterbute_export.families import build_family
        from alterbute_export.onnx_io.weights import WeightStore
        from alterbute_export.onnx_io.write_onnx import write_graph

        whole = family_cache / "bundles" / kind
        if (whole / "manifest.json").is_file():
            return whole
        source = family_checkpoint(kind)

        def write(folder: Path) -> None:
            folder.mkdir()
            read = read_checkpoint(source)
            write_graph(build_family(read, load_models(read)).step(), WeightStore(folder, half=True))

        return keep(family_cache / "steps" / kind, "step.onnx", write)

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
