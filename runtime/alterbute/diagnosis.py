"""A diagnosis: what this machine has, which backend runs a bundle on it and why not the others, and a short run on that one."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np

from alterbute.backends.choice import AUTO_ORDER, BackendChoice, check_backend, choose_backend, is_expected
from alterbute.backends.cuda.inventory import Inventory, take_inventory
from alterbute.bundle import Bundle
from alterbute.editor import Editor
from alterbute.encode.encoder import Encoder
from alterbute.encode.prompt import first_prompt
from alterbute.errors import AlterbuteError, DeviceError

_STEPS: Final = 2
# The CPU takes minutes for an edit with more weights than this.
_LARGE_BYTES: Final = 1 << 30


@dataclass(frozen=True, slots=True, kw_only=True)
class BackendFinding:
    """What was found of one backend.

    Args:
        name: One of `AUTO_ORDER`.
        status: `chosen`, `unusable`, or `not tried` when a faster one was chosen or another one was asked for.
        reason: Why it is not the chosen one, as one line; for the chosen one, the device that it runs on.
    """

    name: str
    status: Literal["chosen", "unusable", "not tried"]
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """A short run: what was run, and the seconds for opening the backend and for the run, loading of graphs included."""

    what: str
    open_s: float
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosis:
    """What was found.

    Args:
        inventory: Driver, GPUs, packages and libraries.
        backends: One entry for each of `AUTO_ORDER`, in that order.
        chosen: Name of the backend that runs the bundle here; None if there is none.
        device: The GPU's name or `cpu`; None without a chosen backend.
        trial: The short run; None if it failed or nothing could be opened.
        problems: Faults, each as one line with what was seen, what was expected and the cure.
        notes: Lines that need no action as long as everything runs.
    """

    inventory: Inventory
    backends: tuple[BackendFinding, ...]
    chosen: str | None
    device: str | None
    trial: Trial | None
    problems: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def is_well(self) -> bool:
        """Whether the fastest backend that can be expected of this machine runs the bundle."""
        return not self.problems


def diagnose(bundle: Bundle, *, backend: str = "auto", allow_unsigned: bool = False, device: int = 0) -> Diagnosis:
    """Find out what runs a bundle on this machine, and run it for a moment; faults are part of the result.

    Args:
        bundle: The bundle.
        backend: A name in `alterbute.backends.BACKENDS`; with a name other than "auto", only that backend is tried.
        allow_unsigned: Load prebuilt engines, which are executable code, even if no trusted key signed the bundle.
        device: Index of the GPU.

    Raises:
        InputError: no such backend.
    """
    check_backend(backend)
    inventory = take_inventory(device)
    findings: list[BackendFinding] = []
    problems: list[str] = []
    choice: BackendChoice | None = None
    open_s = 0.0
    why_not_tried = "" if backend == "auto" else f"{backend} was asked for"
    for name in AUTO_ORDER:
        if why_not_tried and name != backend:
            findings.append(BackendFinding(name=name, status="not tried", reason=why_not_tried))
            continue
        start = time.perf_counter()
        try:
            # By name, so that the reason of every backend is known even when none can be opened.
            choice = choose_backend(name, bundle, allow_unsigned=allow_unsigned, device=device)
        except AlterbuteError as fault:
            findings.append(BackendFinding(name=name, status="unusable", reason=str(fault)))
            if name == backend or _is_fault(bundle, inventory, name):
                problems.append(f"backend {name} cannot be used: {fault}")
            if isinstance(fault, DeviceError) and fault.is_fatal:
                why_not_tried = "the GPU is lost to this process"
        else:
            open_s, why_not_tried = time.perf_counter() - start, why_not_tried or f"{name} is faster"
            findings.append(BackendFinding(name=name, status="chosen", reason=f"runs on {choice.device}"))
    trial = None
    if choice is not None:
        try:
            trial = _run_trial(bundle, choice, open_s)
        except AlterbuteError as fault:
            problems.append(f"backend {choice.name} fails at a short run: {fault}")
        except Exception as fault:  # a library's own error, which no backend foresaw, is a finding, too
            problems.append(
                f"backend {choice.name} fails at a short run: {type(fault).__name__} ({_one_line(fault)}); "
                "expected a result; report it with the output of `alterbute doctor --json`"
            )
    return Diagnosis(
        inventory=inventory,
        backends=tuple(findings),
        chosen=choice.name if choice else None,
        device=choice.device if choice else None,
        trial=trial,
        problems=tuple(problems),
        notes=(inventory.conflict,) if inventory.conflict else (),
    )


def _is_fault(bundle: Bundle, inventory: Inventory, name: str) -> bool:
    """Whether it is a fault that a backend cannot be used: without a GPU, only the CPU's is expected to work."""
    return is_expected(bundle, inventory.driver, name) and (name == AUTO_ORDER[-1] or inventory.driver.expects_gpu)


def _run_trial(bundle: Bundle, choice: BackendChoice, open_s: float) -> Trial:
    """Run the smallest edit of the bundle, or where that would take minutes its prompt graph; the backend is closed."""
    manifest = bundle.manifest
    prompt = first_prompt(manifest.attributes) or "color: red"
    weights = sum(entry.size for name, entry in manifest.files.items() if name.endswith(".bin"))
    side = min(manifest.window_sides)
    start = time.perf_counter()
    if choice.device == "cpu" and weights > _LARGE_BYTES:
        what = f"the prompt graph alone, because the bundle has {weights / 1e9:.1f} GB of weights"
        try:
            Encoder(bundle, choice.backend).encode_prompt(prompt)
            seconds = time.perf_counter() - start
        finally:
            choice.backend.close()
    else:
        what = f"one edit of {_STEPS} steps at {side}x{side}"
        with Editor(bundle, backend=choice.backend, slots=1) as editor:
            photo, mask = _draw_sample(side)
            editor.edit(photo, mask, prompt, steps=_STEPS, seed=0, resolution=side)
            seconds = time.perf_counter() - start
    return Trial(what=what, open_s=open_s, seconds=seconds)


def _draw_sample(side: int) -> tuple[Any, Any]:
    """A noise photo [S,S,3] and a mask [S,S] of its middle, both uint8."""
    photo = np.random.default_rng(0).integers(0, 256, (side, side, 3), np.uint8)
    mask = np.zeros((side, side), np.uint8)
    mask[side // 4 : -side // 4, side // 4 : -side // 4] = 255
    return photo, mask


def _one_line(fault: Exception) -> str:
    return " ".join(str(fault).split()) or "no message"
