"""One step graph in an ONNX Runtime session of its own, with provider options of its own, over bound device memory."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
from alterbute.backends import Array
from alterbute.backends.onnxruntime_cuda.graph_files import choose_variants
from alterbute.bundle import Graph, Variant

from benchmarks.gpu.cases import open_measured
from benchmarks.gpu.stage_record import StageSkippedError

REFERENCE_FILE: Final = "reference_step.npy"
PROVIDER: Final = "CUDAExecutionProvider"
_BASE_OPTIONS: Final = {
    "device_id": "0",
    "enable_cuda_graph": "1",
    "cudnn_conv_algo_search": "EXHAUSTIVE",
    "use_tf32": "0",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class StepVariant:
    """A step graph and how its session is opened.

    Args:
        file: The graph's file in the bundle.
        prologue: File of the graph that computes its extra inputs; None for none, or to be found by its outputs.
        options: Options of the CUDA provider that differ from the product's.
        is_static: Whether free dimensions get their sizes when the session is made.
    """

    file: str
    prologue: str | None = None
    options: Mapping[str, str] = field(default_factory=dict)
    is_static: bool = False


class StepSession:
    """A session of a step graph with its inputs on the device; `launch` runs it, and `run` returns its output.

    Args:
        session: The session of the step graph.
        feed: Every input by name.
        kind: Device type of bound memory: "cuda" or "cpu".
    """

    def __init__(self, session: Any, feed: Mapping[str, Array], kind: str) -> None:
        import onnxruntime

        self._session, self._binding = session, session.io_binding()
        self._kept: list[Any] = []
        for edge in session.get_inputs():
            value = onnxruntime.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(feed[edge.name]), kind, 0)
            self._binding.bind_ortvalue_input(edge.name, value)
            self._kept.append(value)
        (edge,) = session.get_outputs()
        self._output = onnxruntime.OrtValue.ortvalue_from_numpy(np.zeros_like(feed["state"]), kind, 0)
        self._binding.bind_ortvalue_output(edge.name, self._output)
        self._options = onnxruntime.RunOptions()
        if kind == "cuda":
            self._options.add_run_config_entry("gpu_graph_id", "1")

    def launch(self) -> None:
        """Run the step once, and wait for it."""
        self._session.run_with_iobinding(self._binding, self._options)

    def run(self) -> Array:
        """Run the step once, and copy the next state [B,K,C,h,w] f32 to the host."""
        self.launch()
        output: Array = self._output.numpy().copy()
        return output

    def time(self, runs: int) -> dict[str, float]:
        """Seconds of the first run, and median, least and mean wall milliseconds of `runs` further ones."""
        begin = time.perf_counter()
        self.launch()
        first = time.perf_counter() - begin
        for _ in range(3):
            self.launch()
        times = []
        for _ in range(runs):
            begin = time.perf_counter()
            self.launch()
            times.append(1000 * (time.perf_counter() - begin))
        mean = sum(times) / runs
        return {
            "step_ms": round(sorted(times)[runs // 2], 4),
            "min_ms": round(min(times), 4),
            "mean_ms": round(mean, 4),
            "first_s": round(first, 2),
        }


def open_step(folder: str, variant: StepVariant, feed: Mapping[str, Array]) -> StepSession:
    """Open a step graph on the GPU; the inputs that a prologue computes are computed once.

    Args:
        folder: The bundle's folder.
        variant: The graph and its options.
        feed: The inputs of the manifest's step graph.

    Raises:
        RuntimeError: the session is not on the GPU, or no graph of the bundle computes one of its inputs.
    """
    sizes = step_sizes(folder, len(feed["guidance"]), feed["guidance"].shape[1]) if variant.is_static else {}
    session = _open_session(Path(folder) / variant.file, {**_BASE_OPTIONS, **variant.options}, sizes)
    missing = {edge.name for edge in session.get_inputs()} - set(feed)
    return StepSession(session, {**feed, **_run_prologue(folder, variant, feed, missing)}, "cuda")


def open_product_step(folder: str, backend: str, feed: Mapping[str, Array]) -> StepSession:
    """Open the step graph that the product takes on a backend, without a CUDA graph.

    Args:
        folder: The bundle's folder.
        backend: "onnxruntime-cuda", or "onnxruntime" for the CPU.
        feed: The inputs of the manifest's step graph.
    """
    if backend == "onnxruntime":
        return StepSession(open_fp32_step(folder), feed, "cpu")
    variant = product_variant(folder)
    options = {"enable_cuda_graph": "0"}
    return open_step(folder, StepVariant(file=variant.file, prologue=variant.prologue, options=options), feed)


def open_fp32_step(folder: str) -> Any:
    """An ONNX Runtime session of the fp32 step graph on the CPU.

    Raises:
        StageSkippedError: the bundle has no such graph.
    """
    import onnxruntime

    files = [variant.file for variant in _step_graph(folder).variants if variant.precision == "fp32"]
    if not files:
        raise StageSkippedError(f"the bundle {folder} has no fp32 step graph to compare with")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(str(Path(folder) / files[0]), options, providers=["CPUExecutionProvider"])


def product_variant(folder: str) -> Variant:
    """The step variant that the product takes on ONNX Runtime's CUDA provider."""
    return choose_variants(open_measured(folder))["step"]


def step_files(folder: str) -> list[StepVariant]:
    """Every step graph of the bundle for a GPU, listed in the manifest or only lying in the folder; the fp32 ones are left out."""
    listed = {variant.file: variant for variant in _step_graph(folder).variants}
    found = []
    for path in sorted(Path(folder).glob("step*.onnx")):
        variant = listed.get(path.name)
        if "prologue" not in path.name and (variant is None or variant.precision in ("fp16", "bf16")):
            found.append(StepVariant(file=path.name, prologue=variant.prologue if variant else None, is_static=True))
    return found


def step_sizes(folder: str, slots: int = 1, rows: int = 2) -> dict[str, int]:
    """Sizes of the step graph's free dimensions at the bundle's own resolution.

    Args:
        folder: The bundle's folder.
        slots: Images of the launch.
        rows: UNet rows of the launch.
    """
    manifest = open_measured(folder).manifest
    cells = manifest.resolution // manifest.latent_factor
    return {"B": slots, "N": rows, "h": cells, "w": cells, "T": manifest.text.tokens}


def step_feed(folder: str, slots: int = 1, rows: int = 2) -> dict[str, Array]:
    """Inputs of the manifest's step graph, the same in every process: normal noise, timestep 500, and rows shared evenly by the slots.

    Args:
        folder: The bundle's folder.
        slots: Images of the launch.
        rows: UNet rows of the launch.
    """
    generator, sizes = np.random.default_rng(3), step_sizes(folder, slots, rows)
    feed: dict[str, Array] = {}
    for edge in _step_graph(folder).inputs:
        shape = [sizes[axis] if isinstance(axis, str) else axis for axis in edge.shape]
        is_float = edge.dtype == "float32"
        feed[edge.name] = (
            generator.standard_normal(shape).astype(np.float32) if is_float else np.zeros(shape, edge.dtype)
        )
    feed["timestep"][:] = 500
    owner = np.arange(rows) * slots // rows
    feed["owner"][:] = owner
    feed["rescale_row"][:] = np.searchsorted(owner, np.arange(slots))
    feed["guidance"] *= owner[None] == np.arange(slots)[:, None]
    return feed


def _run_prologue(folder: str, variant: StepVariant, feed: Mapping[str, Array], missing: set[str]) -> dict[str, Array]:
    if not missing:
        return {}
    candidates = [variant.prologue] if variant.prologue else sorted(p.name for p in Path(folder).glob("step*prologue*"))
    for name in candidates:
        session = _open_session(Path(folder) / name, {**_BASE_OPTIONS, "enable_cuda_graph": "0"}, {})
        outputs = [edge.name for edge in session.get_outputs()]
        if missing <= set(outputs):
            inputs = {edge.name: feed[edge.name] for edge in session.get_inputs()}
            return dict(zip(outputs, session.run(outputs, inputs), strict=True))
    raise RuntimeError(f"{variant.file} needs {sorted(missing)[:3]}, which none of {candidates} computes")


def _open_session(path: Path, provider_options: Mapping[str, str], sizes: Mapping[str, int]) -> Any:
    import onnxruntime

    preload_libraries()
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    for name, size in sizes.items():
        options.add_free_dimension_override_by_name(name, size)
    session = onnxruntime.InferenceSession(str(path), options, providers=[(PROVIDER, dict(provider_options))])
    if session.get_providers()[0] != PROVIDER:
        raise RuntimeError(f"the session of {path.name} is on {session.get_providers()}, not on the GPU")
    return session


def preload_libraries() -> None:
    """Load CUDA's and cuDNN's libraries from their wheels, where ONNX Runtime can."""
    import onnxruntime

    if hasattr(onnxruntime, "preload_dlls"):
        onnxruntime.preload_dlls()


def _step_graph(folder: str) -> Graph:
    return open_measured(folder).manifest.graphs["step"]
