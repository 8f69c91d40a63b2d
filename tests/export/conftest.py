"""One tiny checkpoint and its bundle for all tests here; nothing changes them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnxruntime
import pytest
from alterbute.bundle import WEIGHTS_FILE, Manifest, read_manifest

from tests.support.checkpoints import make_checkpoint


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_checkpoint(tmp_path_factory.mktemp("checkpoints") / "tiny")


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
