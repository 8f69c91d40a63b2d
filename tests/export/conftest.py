"""Fixtures of the export tests: tiny checkpoints and their bundles, written once, cached between runs, never changed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnxruntime
import pytest
from alterbute.bundle import WEIGHTS_FILE, Manifest, read_manifest

from tests.conftest import FamilyFolder
from tests.support.cached_build import build_once
from tests.support.checkpoints import make_checkpoint


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_checkpoint(tmp_path_factory.mktemp("checkpoints") / "tiny")


@pytest.fixture(scope="session")
def family_step(family_cache: Path, family_checkpoint: FamilyFolder) -> FamilyFolder:
    """Function from a kind of checkpoint to a folder with its step graph and weights.

    The folder is that of the kind's bundle where it has been exported already, else the step graph is written alone.
    """

    def make(kind: str) -> Path:
        from alterbute_export.checkpoint.reader import read_checkpoint
        from alterbute_export.export_bundle import load_models
        from alterbute_export.families import build_family
        from alterbute_export.onnx_io.weights import WeightStore
        from alterbute_export.onnx_io.write_onnx import write_graph

        bundle_folder = family_cache / "bundles" / kind
        if (bundle_folder / "manifest.json").is_file():
            return bundle_folder
        checkpoint_folder = family_checkpoint(kind)

        def write(folder: Path) -> None:
            folder.mkdir()
            checkpoint = read_checkpoint(checkpoint_folder)
            step_spec = build_family(checkpoint, load_models(checkpoint)).step()
            write_graph(step_spec, WeightStore(folder, half=True))

        return build_once(family_cache / "steps" / kind, "step.onnx", write)

    return make


@pytest.fixture(scope="session")
def bundle(tiny_bundle: Path) -> Path:
    """The bundle of `checkpoint`, whose weights are the same in every run."""
    return tiny_bundle


@pytest.fixture(scope="session")
def manifest(bundle: Path) -> Manifest:
    return read_manifest(bundle)


@pytest.fixture(scope="session")
def step(bundle: Path) -> Any:
    return open_graph(bundle, "step")


def open_graph(bundle: Path, name: str) -> Any:
    """An ONNX Runtime session of one graph, opened from the bytes of graph and weights as the runtime does."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    weights = (bundle / WEIGHTS_FILE).read_bytes()
    options.add_external_initializers_from_files_in_memory([WEIGHTS_FILE], [weights], [len(weights)])
    return onnxruntime.InferenceSession((bundle / f"{name}.onnx").read_bytes(), options)
