"""The choice of a backend for a bundle on this machine, with the reason for each one that was skipped."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from alterbute.backends.base import Backend
from alterbute.backends.cuda.driver import Driver
from alterbute.backends.opener import Opener
from alterbute.bundle import Bundle
from alterbute.errors import AlterbuteError, DeviceError, InputError

_logger: Final = logging.getLogger(__name__)
AUTO_ORDER: Final = ("tensorrt", "tensorrt_rtx", "onnxruntime-cuda", "onnxruntime")
"""The backends that "auto" tries, fastest first."""
BACKENDS: Final = ("auto", *AUTO_ORDER)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class BackendChoice:
    """An open backend, and why the faster ones were not taken.

    Args:
        name: Its name, one of `AUTO_ORDER`.
        backend: The backend.
        device: The GPU's name, or `cpu`.
        skipped: Name and reason of each backend that was skipped before it.
        warnings: One line for each skipped backend that was expected to run here, with cause and cure; logged, too.
    """

    name: str
    backend: Backend
    device: str
    skipped: tuple[tuple[str, str], ...] = ()
    warnings: tuple[str, ...] = ()


def open_backend(
    name: str,
    bundle: Bundle,
    *,
    threads: int | None = None,
    allow_unsigned: bool = False,
    device: int = 0,
    exact: bool = False,
) -> Backend:
    """Open a bundle's graphs on a backend, and return the backend alone.

    Args:
        name: One of BACKENDS; "auto" takes the first of AUTO_ORDER that can run this bundle here.
        bundle: The bundle; its files are verified as they are read.
        threads: CPU threads for the large graphs; None takes the backend's default.
        allow_unsigned: Load engines of a bundle that no trusted key has signed.
        device: Index of the GPU.
        exact: As for `choose_backend`.

    Raises:
        InputError: no such backend.
        EngineError: the backend cannot run this bundle here.
        DeviceError: the GPU was lost while engines were loaded.
    """
    return choose_backend(
        name, bundle, threads=threads, allow_unsigned=allow_unsigned, device=device, exact=exact
    ).backend


def choose_backend(
    name: str,
    bundle: Bundle,
    *,
    threads: int | None = None,
    allow_unsigned: bool = False,
    device: int = 0,
    exact: bool = False,
) -> BackendChoice:
    """Open a bundle's graphs on a backend.

    Args:
        name: One of BACKENDS; "auto" takes the first of AUTO_ORDER that can run this bundle here.
        bundle: The bundle; its files are verified as they are read.
        threads: CPU threads for the large graphs; None takes the most with which a result's bytes do not depend on the
            other images of its launch.
        allow_unsigned: Load engines of a bundle that no trusted key has signed. An engine is executable code.
        device: Index of the GPU.
        exact: Open only what gives a request the same bytes alone and beside others. Without it the CPU does so too, but a GPU
            launches few images at a smaller shape and adds in an order that changes; exact is slower there.

    Raises:
        InputError: no such backend.
        EngineError: the named backend cannot run this bundle here; EngineMismatchError where its engines are for another
            machine.
        DeviceError: the GPU was lost while engines were loaded.
    """
    check_backend(name)
    opener = Opener(bundle, threads=threads, allow_unsigned=allow_unsigned, device=device, exact=exact)
    if name != "auto":
        backend = opener.open(name)
        return BackendChoice(name=name, backend=backend, device=_device_name(name, opener))
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
            return BackendChoice(
                name=candidate,
                backend=backend,
                device=_device_name(candidate, opener),
                skipped=tuple(skipped),
                warnings=_log_choice(bundle, opener.driver, candidate, skipped),
            )
    raise AssertionError("the last candidate is opened or raises")


@contextmanager
def close_on_error(choice: BackendChoice | None) -> Iterator[None]:
    """Close a backend that was just opened, if there is one, when what follows fails."""
    try:
        yield
    except BaseException:
        if choice is not None:
            choice.backend.close()
        raise


def check_backend(name: str) -> None:
    """Check that a name is one of `BACKENDS`.

    Raises:
        InputError: it is not.
    """
    if name not in BACKENDS:
        raise InputError(
            f"the backend is {name!r}",
            f"one of {', '.join(BACKENDS)}",
            "choose one of those",
            "backend",
            "backend_unknown",
        )


def is_expected(bundle: Bundle, driver: Driver, candidate: str) -> bool:
    """Whether a backend should be able to run a bundle on this machine, so that it is a fault if it cannot.

    Args:
        bundle: The bundle: its prebuilt engines are meant to be used.
        driver: A machine with a GPU is meant to use it.
        candidate: One of `AUTO_ORDER`.
    """
    if candidate == "onnxruntime-cuda":
        return driver.expects_gpu
    return candidate == AUTO_ORDER[-1] or any(engine.product == candidate for engine in bundle.manifest.engines)


def _device_name(name: str, opener: Opener) -> str:
    return "cpu" if name == AUTO_ORDER[-1] or opener.driver.gpu is None else opener.driver.gpu.name


def _log_choice(bundle: Bundle, driver: Driver, name: str, skipped: list[tuple[str, str]]) -> tuple[str, ...]:
    """Log the choice, and return a warning for each skipped backend that was expected to run."""
    warnings = []
    for candidate, reason in skipped:
        line = f"backend {candidate} skipped, {name} runs instead: {reason}"
        if is_expected(bundle, driver, candidate):
            warnings.append(line)
            _logger.warning("%s", line)
        else:
            _logger.debug("%s", line)
    _logger.info("backend %s runs %s", name, bundle.manifest.name)
    return tuple(warnings)
