"""The choice of a backend for a bundle on this machine; unfit engines are refused before an engine library reads them."""

from __future__ import annotations

import importlib
import importlib.util
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from alterbute.backends.base import HOST_GRAPHS, Backend
from alterbute.backends.cuda.driver import Driver, probe_driver, this_platform
from alterbute.bundle import Bundle, Engine, Product
from alterbute.errors import AlterbuteError, DeviceError, EngineError, EngineMismatchError, InputError

_logger: Final = logging.getLogger(__name__)
AUTO_ORDER: Final = ("tensorrt", "tensorrt_rtx", "onnxruntime-cuda", "onnxruntime")
"""The backends that "auto" tries, fastest first."""
BACKENDS: Final = ("auto", *AUTO_ORDER)
_AMPERE: Final = (8, 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """The installed engine library, platform and NVIDIA driver, which an engine must fit."""

    product: Product
    version: str
    platform: str
    driver: Driver


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class BackendChoice:
    """An open backend with its name, and the backends that were skipped before it: name and reason of each."""

    name: str
    backend: Backend
    skipped: tuple[tuple[str, str], ...]


def open_backend(
    name: str, bundle: Bundle, *, threads: int | None = None, allow_unsigned: bool = False, device: int = 0
) -> Backend:
    """Open a bundle's graphs on a backend, and return the backend alone.

    Args:
        name: One of BACKENDS; "auto" takes the first of AUTO_ORDER that can run this bundle here.
        bundle: The bundle; its files are verified as they are read.
        threads: CPU threads for the large graphs; None takes the backend's default.
        allow_unsigned: Load engines of a bundle that no trusted key has signed.
        device: Index of the GPU.

    Raises:
        InputError: no such backend.
        EngineError: the backend cannot run this bundle here.
        DeviceError: the GPU was lost while engines were loaded.
    """
    return choose_backend(name, bundle, threads=threads, allow_unsigned=allow_unsigned, device=device).backend


def choose_backend(
    name: str, bundle: Bundle, *, threads: int | None = None, allow_unsigned: bool = False, device: int = 0
) -> BackendChoice:
    """Open a bundle's graphs on a backend.

    Args:
        name: One of BACKENDS; "auto" takes the first of AUTO_ORDER that can run this bundle here.
        bundle: The bundle; its files are verified as they are read.
        threads: CPU threads for the large graphs; None takes the most with which a result's bytes do not depend on the
            other images of its launch.
        allow_unsigned: Load engines of a bundle that no trusted key has signed. An engine is executable code.
        device: Index of the GPU.

    Raises:
        InputError: no such backend.
        EngineError: the named backend cannot run this bundle here; EngineMismatchError where its engines are for another
            machine.
        DeviceError: the GPU was lost while engines were loaded.
    """
    if name not in BACKENDS:
        raise InputError(
            f"the backend is {name!r}",
            f"one of {', '.join(BACKENDS)}",
            "choose one of those",
            "backend",
            "backend_unknown",
        )
    opener = _Opener(bundle, threads, allow_unsigned, device)
    if name != "auto":
        return BackendChoice(name=name, backend=opener.open(name), skipped=())
    skipped: list[tuple[str, str]] = []
    for candidate in AUTO_ORDER:
        try:
            backend = opener.open(candidate)
        except DeviceError as fault:
            if fault.is_fatal:
                raise
            skipped.append((candidate, str(fault)))
        except AlterbuteError as fault:
            if candidate == AUTO_ORDER[-1]:
                raise
            skipped.append((candidate, str(fault)))
        else:
            _log_choice(bundle, candidate, skipped)
            return BackendChoice(name=candidate, backend=backend, skipped=tuple(skipped))
    raise AssertionError("the last candidate is opened or raises")


def choose_engines(bundle: Bundle, machine: Machine, *, allow_unsigned: bool) -> dict[str, Engine]:
    """Choose the engines of the first recipe that fits this machine, checked before any of them is read.

    Args:
        bundle: The bundle.
        machine: The library, platform and driver that the engines must fit.
        allow_unsigned: Accept a bundle that no trusted key has signed.

    Returns:
        One engine per graph, by the graph's name.

    Raises:
        EngineError: the bundle has no engines of the product, or no trusted key signed it.
        EngineMismatchError: no recipe fits; the message is that of the first recipe.
    """
    recipes: dict[str, dict[str, Engine]] = {}
    for engine in bundle.manifest.engines:
        if engine.product == machine.product:
            recipes.setdefault(engine.recipe, {})[engine.graph] = engine
    _check_trust(bundle, machine.product, bool(recipes), allow_unsigned)
    misfits: list[EngineMismatchError] = []
    for recipe, engines in recipes.items():
        try:
            _check_complete(bundle, recipe, engines)
            for engine in engines.values():
                check_engine(bundle, engine, machine)
            return engines
        except EngineMismatchError as misfit:
            misfits.append(misfit)
    raise misfits[0]


def check_engine(bundle: Bundle, engine: Engine, machine: Machine) -> None:
    """Refuse an engine that was built for another library version, platform, GPU or driver, or from another graph.

    Args:
        bundle: The bundle that lists the engine.
        engine: The engine's entry in the manifest.
        machine: The library, platform and driver that it must fit.

    Raises:
        EngineMismatchError: it does not fit; the message names both sides and the command that rebuilds it.
    """
    gpu = machine.driver.gpu
    if gpu is None:
        raise _mismatch(
            bundle, engine, machine.driver.reason, f"a GPU of compute capability {' or '.join(engine.capabilities)}"
        )
    for kind, required, actual in (
        ("version", f"{engine.product} {engine.version}", f"{machine.product} {machine.version}"),
        ("platform", engine.platform, machine.platform),
    ):
        if actual != required:
            raise _mismatch(bundle, engine, f"this machine's {kind} is {actual}", required)
    if not _fits(engine, gpu.name, gpu.capability):
        required_gpu = (
            f"{engine.gpu or 'a GPU'} of compute capability {' or '.join(engine.capabilities)} ({engine.fit})"
        )
        seen = f"this machine has {gpu.name} of compute capability {gpu.capability}"
        raise _mismatch(bundle, engine, seen, required_gpu)
    if _parse_version(machine.driver.cuda) < _parse_version(engine.cuda)[:2]:
        seen = f"this machine's driver runs CUDA {machine.driver.cuda}"
        raise _mismatch(bundle, engine, seen, f"CUDA {engine.cuda}, from driver {engine.driver} on")
    files = bundle.manifest.files
    for name, digest in {engine.source: engine.onnx, **engine.weights}.items():
        if files[name].sha256 != digest:
            seen = f"the bundle's {name!r} has SHA-256 {files[name].sha256[:12]}..."
            raise _mismatch(bundle, engine, seen, f"{digest[:12]}..., from which the engine was built")


class _Opener:
    """Opens backends by name. The driver is probed once, before any library that needs it is imported."""

    def __init__(self, bundle: Bundle, threads: int | None, allow_unsigned: bool, device: int) -> None:
        self._bundle, self._threads, self._allow_unsigned, self._device = bundle, threads, allow_unsigned, device
        self._driver: Driver | None = None

    def open(self, name: str) -> Backend:
        openers: dict[str, Callable[[], Backend]] = {
            "tensorrt": lambda: self._open_tensorrt("tensorrt"),
            "tensorrt_rtx": lambda: self._open_tensorrt("tensorrt_rtx"),
            "onnxruntime-cuda": self._open_cuda,
            "onnxruntime": lambda: self._open_cpu(None),
        }
        return openers[name]()

    def _open_cpu(self, graphs: tuple[str, ...] | None) -> Backend:
        from alterbute.backends.onnxruntime import OnnxRuntimeBackend

        return OnnxRuntimeBackend(self._bundle, threads=self._threads, graphs=graphs)

    def _open_tensorrt(self, product: Product) -> Backend:
        from alterbute.backends.cuda.runtime import load_cuda
        from alterbute.backends.tensorrt.backend import TensorRtBackend
        from alterbute.backends.tensorrt.module import load_module

        has_engines = any(engine.product == product for engine in self._bundle.manifest.engines)
        # Cheap checks first: most machines have no such engines and no GPU, and these checks need no library.
        _check_trust(self._bundle, product, has_engines, self._allow_unsigned)
        driver = self._require_gpu(product)
        trt = load_module(product)
        machine = Machine(product=product, version=trt.__version__, platform=this_platform(), driver=driver)
        engines = choose_engines(self._bundle, machine, allow_unsigned=self._allow_unsigned)
        return TensorRtBackend(
            self._bundle,
            product,
            engines,
            trt=trt,
            cuda_api=load_cuda(),
            host=self._open_cpu(HOST_GRAPHS),
            device=self._device,
        )

    def _open_cuda(self) -> Backend:
        from alterbute.backends.cuda.runtime import load_cuda
        from alterbute.backends.onnxruntime_cuda import PROVIDER, OnnxRuntimeCudaBackend

        self._require_gpu("onnxruntime-cuda")
        fix = "run `pip install 'alterbute[cuda]'`"
        if importlib.util.find_spec("onnxruntime") is None:
            raise EngineError("onnxruntime is not installed", "onnxruntime-gpu", fix)
        ort = importlib.import_module("onnxruntime")
        if PROVIDER not in ort.get_available_providers():
            raise EngineError(f"this onnxruntime has {', '.join(ort.get_available_providers())}", PROVIDER, fix)
        return OnnxRuntimeCudaBackend(
            self._bundle, ort=ort, cuda_api=load_cuda(), host=self._open_cpu(HOST_GRAPHS), device=self._device
        )

    def _require_gpu(self, name: str) -> Driver:
        if self._driver is None:
            self._driver = probe_driver(self._device)
        if self._driver.gpu is None:
            raise EngineError(
                f"{name} needs an NVIDIA GPU, and {self._driver.reason}",
                "a GPU with a working driver",
                "choose backend onnxruntime",
            )
        return self._driver


def _check_trust(bundle: Bundle, product: Product, has_engines: bool, allow_unsigned: bool) -> None:
    if not has_engines:
        raise EngineError(
            f"the bundle has no engines of {product}",
            "prebuilt engines",
            f"build some: `alterbute-export engine {bundle.path} --recipe engines/recipes/RECIPE.toml`",
        )
    if bundle.signed_by is None and not allow_unsigned:
        raise EngineError(
            f"the bundle's {product} engines are not signed by a trusted key",
            "a trusted key's signature, because an engine is executable code",
            "pass trust_keys (--trust-key), or allow unsigned engines on purpose (--allow-unsigned)",
        )


def _check_complete(bundle: Bundle, recipe: str, engines: dict[str, Engine]) -> None:
    missing = sorted(set(bundle.manifest.graphs) - set(engines) - set(HOST_GRAPHS))
    if missing:
        raise _mismatch(
            bundle,
            next(iter(engines.values())),
            f"recipe {recipe} has no engine of graph {missing[0]!r}",
            "one of each graph",
        )


def _fits(engine: Engine, gpu: str, capability: str) -> bool:
    if engine.fit == "ampere_plus":
        return _parse_version(capability) >= _AMPERE
    if engine.fit == "same_gpu" and engine.gpu != gpu:
        return False
    return capability in engine.capabilities


def _parse_version(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))


def _mismatch(bundle: Bundle, engine: Engine, seen: str, expected: str) -> EngineMismatchError:
    return EngineMismatchError(
        f"{seen}; the engine {engine.file!r} is for another",
        expected,
        f"rebuild it here: `alterbute-export engine {bundle.path} --recipe engines/recipes/{engine.recipe}.toml`",
    )


def _log_choice(bundle: Bundle, name: str, skipped: list[tuple[str, str]]) -> None:
    """Log the backend that was chosen, and a warning for each skipped one for which the bundle has prebuilt engines."""
    products = {engine.product for engine in bundle.manifest.engines}
    for candidate, reason in skipped:
        _logger.log(
            logging.WARNING if candidate in products else logging.DEBUG, "backend %s skipped: %s", candidate, reason
        )
    _logger.info("backend %s runs %s", name, bundle.manifest.name)
