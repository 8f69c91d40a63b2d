"""A bundle's sessions on ONNX Runtime's CUDA provider, and the states that run its step graph; for the device's thread."""

from __future__ import annotations

import itertools
from typing import Any, Final

from alterbute.backends.base import Array, Arrays
from alterbute.backends.cuda.device_step_state import DeviceStepState
from alterbute.backends.cuda.device_thread import DeviceThread
from alterbute.backends.cuda.launch_buckets import ROWS_PER_SLOT, choose_buckets, make_profile
from alterbute.backends.cuda.runtime import Cuda, CudaApi, free_all, no_memory
from alterbute.backends.onnxruntime_cuda.bound_step import BoundStep
from alterbute.backends.onnxruntime_cuda.gpu_session import GpuPlace, GpuSession
from alterbute.backends.onnxruntime_cuda.graph_files import choose_variants, least_memory, read_weights
from alterbute.backends.run_check import check_outputs
from alterbute.bundle import Bundle, LaunchShape
from alterbute.bundle.graph_files import read_model, read_model_and_prologue
from alterbute.errors import BundleError, DeviceError

_PROLOGUE: Final = "step's prologue"


class ProviderGraphs:
    """Sessions of every graph but the image graphs; implements `alterbute.backends.cuda.threaded_backend.DeviceGraphs`.

    Args:
        bundle: The bundle.
        ort: The module `onnxruntime`.
        cuda_api: `cuda.bindings.runtime`.
        thread: The device's thread, on which this object is made and used.
        device: Index of the GPU.
        exact: Launch the step graph at one shape only, and run deterministic graphs only.
        provider: Name of the execution provider.
        kind: Device type of bound memory in ONNX Runtime's terms.
    """

    def __init__(
        self,
        bundle: Bundle,
        *,
        ort: Any,
        cuda_api: CudaApi,
        thread: DeviceThread,
        device: int,
        exact: bool,
        provider: str,
        kind: str,
    ) -> None:
        self._bundle, self._thread, self._exact = bundle, thread, exact
        self._variants = choose_variants(bundle, exact=exact)
        self.precisions = {name: variant.precision for name, variant in self._variants.items()}
        self._annotations = itertools.count(1)
        self._sessions: dict[str, GpuSession] = {}
        self._parts: list[DeviceStepState | BoundStep] = []
        self.cuda = Cuda(cuda_api, device)
        try:
            self._load(GpuPlace(ort=ort, provider=provider, kind=kind, device=device, cuda=self.cuda))
        except BaseException:
            self._free()
            raise

    def open_step_state(self, state: tuple[int, ...]) -> DeviceStepState:
        """Allocate the state [slots,K,C,h,w], the input buffers of the step graph, and the memory between it and its prologue.

        Raises:
            DeviceError: the GPU has no memory left, or is lost.
        """
        graph, slots = self._bundle.manifest.graphs["step"], state[0]
        full = LaunchShape(slots=slots, rows=ROWS_PER_SLOT * slots)
        buckets = (full,) if self._exact else choose_buckets(self._variants["step"].buckets, slots)
        tokens = self._bundle.manifest.text.tokens
        sizes = {"h": state[-2], "w": state[-1], "T": tokens}
        step = BoundStep(
            self._sessions["step"],
            self._sessions.get(_PROLOGUE),
            cuda=self.cuda,
            rows=max(bucket.rows for bucket in buckets),
            tokens=tokens,
            annotations=self._annotations,
        )
        self._parts.append(step)
        steps = DeviceStepState(
            self.cuda,
            graph.inputs,
            graph.outputs[0].name,
            profiles=[make_profile(graph.inputs, bucket, sizes) for bucket in buckets],
            state=state,
            make_launch=step.make_launch,
            thread=self._thread,
            fix="open it with another resolution",
        )
        self._parts.append(steps)
        return steps

    def run(self, graph: str, inputs: Arrays) -> dict[str, Array]:
        """Run a graph once from host memory, and wait for its outputs.

        Raises:
            DeviceError: the run failed, or the device is lost.
            BundleError: an output is not what the manifest lists.
        """
        if graph == "step" and _PROLOGUE in self._sessions:
            inputs = {**inputs, **self._sessions[_PROLOGUE].run(inputs)}
        results = self._sessions[graph].run(inputs)
        check_outputs(graph, self._bundle.manifest, inputs, results)
        return results

    def close(self) -> None:
        """Free sessions and device memory.

        Raises:
            DeviceError: the device failed; what can be freed is freed all the same.
        """
        fault = self._free()
        if fault is not None:
            raise fault

    def _load(self, place: GpuPlace) -> None:
        models = {}
        for name, variant in self._variants.items():
            if variant.prologue is None:
                models[name] = read_model(self._bundle, name, variant)
            elif name == "step":
                models[name], models[_PROLOGUE] = read_model_and_prologue(self._bundle, name, variant)
            else:
                raise _prologue_error(name)
        needed, free = least_memory(models, self._variants), self.cuda.free_bytes()
        if needed > free:
            raise no_memory(f"the bundle's weights of {needed / 1e6:.0f} MB", f"{free / 1e6:.0f} MB are free")
        weights = read_weights(self._bundle, models.values())
        # The step graph takes most of the memory: first, so that a GPU that is too small is found out at once.
        for name in sorted(models, key=lambda name: name != "step"):
            self._sessions[name] = GpuSession(place, name, models[name], weights, is_captured=name == "step")

    def _free(self) -> DeviceError | None:
        """Free everything; returns the first error that is not the loss of the device, which freed the memory itself."""
        # First a wait, which finds out whether the device is lost. Launches before the sessions that they belong to, and last the
        # stream, on which sessions free memory.
        fault = free_all(
            self.cuda.synchronize,
            *(part.close for part in (*reversed(self._parts), *self._sessions.values())),
            self.cuda.close,
        )
        self._parts.clear()
        self._sessions.clear()
        return fault


def _prologue_error(graph: str) -> BundleError:
    return BundleError(
        f"the bundle's graph {graph!r} has a prologue", "one for the step graph only", "export the bundle again"
    )
