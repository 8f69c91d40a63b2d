"""Whether prebuilt engines fit this machine; unfit engines are refused before an engine library reads them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from alterbute.backends.base import HOST_GRAPHS
from alterbute.backends.cuda.driver import Driver
from alterbute.bundle import Bundle, Engine, Product
from alterbute.errors import EngineError, EngineMismatchError

_AMPERE: Final = (8, 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """The installed engine library, platform and NVIDIA driver, which an engine must fit."""

    product: Product
    version: str
    platform: str
    driver: Driver


def check_trust(bundle: Bundle, product: Product, *, allow_unsigned: bool) -> None:
    """Check that a bundle has engines of a product, and that they may be loaded.

    Args:
        bundle: The bundle.
        product: The engine library.
        allow_unsigned: Accept a bundle that no trusted key has signed.

    Raises:
        EngineError: the bundle has no such engines, or no trusted key signed it.
    """
    if not any(engine.product == product for engine in bundle.manifest.engines):
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
    check_trust(bundle, machine.product, allow_unsigned=allow_unsigned)
    recipes: dict[str, dict[str, Engine]] = {}
    for engine in bundle.manifest.engines:
        if engine.product == machine.product:
            recipes.setdefault(engine.recipe, {})[engine.graph] = engine
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
