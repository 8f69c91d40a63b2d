"""A tiny bundle with stand-in plans, and the TensorRT backend over a stand-in library and device."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from alterbute.backends import Backend, open_backend
from alterbute.backends.tensorrt.backend import TensorRtBackend
from alterbute.bundle import Bundle, open_bundle

from tests.backends.fake_cuda import FakeCuda
from tests.backends.fake_tensorrt import FakeTensorRt
from tests.support.backends import SharedBackend
from tests.support.engines import write_engines
from tests.support.pictures import noise


@dataclass(frozen=True, slots=True, kw_only=True)
class Rig:
    """A backend and what stands in for the hardware under it."""

    bundle: Bundle
    cuda: FakeCuda
    trt: FakeTensorRt
    reference: Backend

    def open(self, device: int = 0) -> TensorRtBackend:
        engines = {engine.graph: engine for engine in self.bundle.manifest.engines}
        product: Any = self.bundle.manifest.engines[0].product
        trt: Any = self.trt
        cuda: Any = self.cuda
        return TensorRtBackend(
            self.bundle, product, engines, trt=trt, cuda_api=cuda, host=self.reference, device=device
        )


def draw_photo_and_mask() -> tuple[Any, Any]:
    """A noise photo with a square object."""
    mask = np.zeros((48, 56), np.uint8)
    mask[12:36, 16:40] = 255
    return noise(48, 56), mask


@pytest.fixture(scope="session")
def engine_bundle(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return write_engines(tiny_bundle, tmp_path_factory.mktemp("engines") / "bundle")


@pytest.fixture(scope="session")
def reference(tiny_bundle: Path) -> Iterator[Backend]:
    """What the stand-in computes with, and what its results are compared to."""
    backend = open_backend("onnxruntime", open_bundle(tiny_bundle), threads=1)
    yield backend
    backend.close()


@pytest.fixture
def make_rig(reference: Backend) -> Callable[[Bundle], Rig]:
    def make(bundle: Bundle) -> Rig:
        cuda, shared = FakeCuda(), SharedBackend(reference)
        return Rig(bundle=bundle, cuda=cuda, trt=FakeTensorRt(cuda, bundle.manifest, shared), reference=shared)

    return make


@pytest.fixture
def rig(engine_bundle: Bundle, make_rig: Callable[[Bundle], Rig]) -> Rig:
    return make_rig(engine_bundle)
