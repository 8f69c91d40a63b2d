"""`alterbute doctor`: what this machine has, which backend runs a bundle on it, and whether that one works.

With `--json` the report is one JSON document with these keys, which stay:

- `alterbute`, `python`, `platform`: versions, and the platform as in engines (`linux_x86_64`).
- `driver`: `version` (`580.65.06` or null), `cuda` (newest CUDA that it supports, or null), `reason` (why there is no GPU, or null).
- `gpus`: list of `name`, `capability` (`9.0`), `memory_bytes`, `free_bytes` (or null).
- `packages`: version by name of each installed package that a backend uses.
- `libraries`: list of `name`, `file`, `version` (or null), `fault` (the loader's message, or null).
- `bundle`: `name`, `path`, `sha256`.
- `backends`: list, fastest first, of `name`, `status` (`chosen`, `unusable`, `not tried`), `reason`.
- `chosen`, `device`: the backend that runs the bundle, and its GPU or `cpu`; null if none does.
- `trial`: `what` was run, `open_s`, `seconds`; null if nothing could be run.
- `problems`, `notes`: lists of lines.
- `exit_code`: 0 or 1.
"""

from __future__ import annotations

import platform
from collections.abc import Iterator
from json import dumps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from alterbute.cli.echo import echo
from alterbute.cli.trust import TrustKeyOption, read_trust_option

if TYPE_CHECKING:
    from alterbute.backends.cuda.inventory import GpuMemory, Inventory
    from alterbute.bundle import Bundle
    from alterbute.diagnosis import Diagnosis


def doctor(
    bundle: Annotated[Path | None, typer.Argument(help="Bundle folder; the demo bundle when left out.")] = None,
    backend: Annotated[
        str, typer.Option(help="auto, tensorrt, tensorrt_rtx, onnxruntime-cuda or onnxruntime; auto takes the fastest.")
    ] = "auto",
    device: Annotated[int, typer.Option(min=0, help="Index of the GPU.")] = 0,
    trust_key: TrustKeyOption = None,
    allow_unsigned: Annotated[
        bool,
        typer.Option("--allow-unsigned", help="Load engines that no trusted key signed. They are executable code."),
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> int:
    """Report driver, GPUs, libraries, and which backend runs a bundle here and why not the others; run it for a moment.

    Exit code 0: the fastest backend that this machine should have works; without a GPU that is the CPU. Exit code 1: a GPU is
    there and cannot be used, the backend that was asked for cannot be used, or nothing runs. Exit code 2: the bundle cannot be opened.
    """
    from alterbute.bundle import default_bundle_path, open_bundle
    from alterbute.diagnosis import diagnose

    opened = open_bundle(bundle or default_bundle_path(), trust_keys=read_trust_option("doctor", trust_key))
    diagnosis = diagnose(opened, backend=backend, allow_unsigned=allow_unsigned, device=device)
    if json:
        for line in dumps(to_json(opened, diagnosis), indent=2).split("\n"):
            echo(line)
    else:
        for line in describe_diagnosis(opened, diagnosis):
            echo(line)
    return exit_code_of(diagnosis)


def exit_code_of(diagnosis: Diagnosis) -> int:
    """0 when the fastest backend that can be expected works, else 1."""
    return 0 if diagnosis.is_well else 1


def to_json(bundle: Bundle, diagnosis: Diagnosis) -> dict[str, Any]:
    """The report as a JSON object; this module's docstring lists the keys."""
    from alterbute.backends.cuda.driver import this_platform
    from alterbute.version import installed_version

    found = diagnosis.inventory
    trial = diagnosis.trial
    return {
        "alterbute": installed_version(),
        "python": platform.python_version(),
        "platform": this_platform(),
        "driver": {
            "version": found.driver_version,
            "cuda": None if found.driver.cuda == "0.0" else found.driver.cuda,
            "reason": found.driver.reason or None,
        },
        "gpus": [
            {
                "name": entry.gpu.name,
                "capability": entry.gpu.capability,
                "memory_bytes": entry.gpu.memory,
                "free_bytes": entry.free,
            }
            for entry in found.gpus
        ],
        "packages": dict(found.packages),
        "libraries": [
            {"name": entry.name, "file": entry.file, "version": entry.version, "fault": entry.fault or None}
            for entry in found.libraries
        ],
        "bundle": {"name": bundle.manifest.name, "path": str(bundle.path), "sha256": bundle.sha256},
        "backends": [
            {"name": entry.name, "status": entry.status, "reason": entry.reason} for entry in diagnosis.backends
        ],
        "chosen": diagnosis.chosen,
        "device": diagnosis.device,
        "trial": None
        if trial is None
        else {"what": trial.what, "open_s": round(trial.open_s, 3), "seconds": round(trial.seconds, 3)},
        "problems": list(diagnosis.problems),
        "notes": list(diagnosis.notes),
        "exit_code": exit_code_of(diagnosis),
    }


def describe_diagnosis(bundle: Bundle, diagnosis: Diagnosis) -> Iterator[str]:
    """Yield the lines of the report."""
    from alterbute.backends.cuda.driver import this_platform
    from alterbute.version import installed_version

    yield f"alterbute {installed_version()}, Python {platform.python_version()}, {this_platform()}"
    yield from _describe_inventory(diagnosis.inventory)
    yield f"bundle     {bundle.manifest.name}"
    for entry in diagnosis.backends:
        yield f"backend    {entry.name}: {entry.status}, {entry.reason}"
    if diagnosis.trial is not None:
        trial = diagnosis.trial
        yield f"run        {trial.what}: {trial.seconds:.2f} s, after opening in {trial.open_s:.2f} s"
    for note in diagnosis.notes:
        yield f"note       {note}"
    for problem in diagnosis.problems:
        yield f"problem    {problem}"
    if diagnosis.is_well:
        yield f"result     {diagnosis.chosen} works on {diagnosis.device}"
    else:
        yield "result     not all that this machine should have works; see the problems above"


def _describe_inventory(found: Inventory) -> Iterator[str]:
    driver = found.driver
    if driver.cuda == "0.0":
        yield f"driver     {driver.reason}"
    else:
        version = f"{found.driver_version}, " if found.driver_version else ""
        yield f"driver     {version}supports CUDA {driver.cuda}{f'; {driver.reason}' if driver.reason else ''}"
    for index, entry in enumerate(found.gpus):
        yield f"gpu        {index}: {entry.gpu.name}, compute capability {entry.gpu.capability}, {_describe_memory(entry)}"
    versions = ", ".join(f"{name} {version}" for name, version in found.packages.items())
    yield f"packages   {versions or 'none of an engine library'}"
    if loaded := [library for library in found.libraries if not library.fault]:
        names = (f"{library.name} {library.version}" if library.version else library.name for library in loaded)
        yield f"libraries  {', '.join(names)}"
    for library in found.libraries:
        if library.fault:
            yield f"library    {library.file} does not load ({library.fault})"


def _describe_memory(entry: GpuMemory) -> str:
    total = f"{entry.gpu.memory / 2**30:.1f} GiB"
    return total if entry.free is None else f"{entry.free / 2**30:.1f} of {total} free"
