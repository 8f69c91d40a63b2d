"""Programs over the stand-in of CUDA: their environment, their result, and the log of their calls."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tests.cuda.build import LIBRARIES
from tests.cuda.call_log import CallLog, read_log
from tests.cuda.child import RESULT
from tests.cuda.wheels import ROOT, CudaWheels

SHIM: Final = Path(__file__).parent / "shim"


@dataclass(frozen=True, slots=True, kw_only=True)
class StandInRun:
    """A program that has ended: what its function returned (None when it died), exit code, outputs and calls."""

    result: Any
    returncode: int
    output: str
    errors: str
    log: CallLog

    def check(self) -> StandInRun:
        """This run, when the program ended well; a test fails with its error output otherwise."""
        assert self.returncode == 0, f"exit code {self.returncode}\n{self.output[-2000:]}\n{self.errors[-6000:]}"
        return self


@dataclass(frozen=True, slots=True, kw_only=True)
class StandIn:
    """The compiled stand-in.

    Programs find `cuda.bindings` over the stand-in, ONNX Runtime's CUDA build, and this checkout's packages.
    """

    libraries: Path
    wheels: CudaWheels

    @property
    def path(self) -> tuple[Path, Path]:
        """Folders that a program needs first on Python's path: cuda-bindings over the stand-in, and ONNX Runtime's CUDA build."""
        return SHIM, self.wheels.onnxruntime

    def environment(
        self,
        *,
        log: Path | None = None,
        libraries: Path | None = None,
        devices: int = 1,
        memory: int = 80 << 30,
        occupied: int = 0,
        faults: str = "",
        driver: int = 13000,
        init_error: int = 0,
        capability: int = 90,
    ) -> dict[str, str]:
        """Environment of a program over the stand-in.

        Args:
            log: File that receives the calls.
            libraries: Folder of the libraries, when not all of them are to be found (`some_libraries`).
            devices: Number of GPUs.
            memory: Bytes of each.
            occupied: Bytes of each that other processes hold.
            faults: Calls that fail, in the form of `tests.cuda.control.arm`, counted from the start.
            driver: CUDA version of the driver; below 13000 every call fails with `cudaErrorInsufficientDriver`.
            init_error: What `cuInit` returns; 0 is success.
            capability: Compute capability, 90 for 9.0.
        """
        settings: Mapping[str, object] = {
            "STANDIN_LOG": log or "",
            "STANDIN_DEVICES": devices,
            "STANDIN_MEMORY": memory,
            "STANDIN_OCCUPIED": occupied,
            "STANDIN_FAULTS": faults,
            "STANDIN_DRIVER": driver,
            "STANDIN_INIT_ERROR": init_error,
            "STANDIN_CAPABILITY": capability,
            "LD_LIBRARY_PATH": libraries or self.libraries,
            "PYTHONPATH": os.pathsep.join(str(path) for path in (*self.path, ROOT / "runtime", ROOT / "export", ROOT)),
        }
        return {**os.environ, **{name: str(value) for name, value in settings.items()}}

    def some_libraries(
        self, folder: Path, *, without: Collection[str] = (), renamed: Mapping[str, str] | None = None
    ) -> Path:
        """Link the libraries into a folder, and return it.

        Args:
            folder: Is made.
            without: Names to leave out, such as `libcudnn.so.9`.
            renamed: New names, such as `libcudnn.so.8` for `libcudnn.so.9`: another major version.
        """
        folder.mkdir(parents=True, exist_ok=True)
        for name in LIBRARIES:
            if name not in without:
                (folder / (renamed or {}).get(name, name)).symlink_to(self.libraries / name)
        return folder

    def run(
        self, function: Callable[..., object], *arguments: object, timeout_s: float = 300, **environment: Any
    ) -> StandInRun:
        """Run a function of a module in a process of its own and wait for its end.

        Args:
            function: A public function of a module that does not import pytest's fixtures.
            arguments: What JSON can hold; paths become text.
            timeout_s: Longest time; the process is killed after it.
            environment: Arguments of `environment`.
        """
        command = [
            "-m",
            "tests.cuda.child",
            function.__module__,
            function.__qualname__,
            json.dumps(arguments, default=str),
        ]
        return self.run_python(command, timeout_s=timeout_s, **environment)

    def run_python(self, arguments: list[str], *, timeout_s: float = 300, **environment: Any) -> StandInRun:
        """Run Python with these arguments, such as `["-c", program]`; the result is that of `tests.cuda.child`, else None."""
        with tempfile.TemporaryDirectory() as folder:
            log = Path(folder) / "calls.txt"
            process = subprocess.run(
                [sys.executable, *arguments],
                env=self.environment(log=log, **environment),
                cwd=ROOT,
                capture_output=True,
                text=True,
                timeout=timeout_s,
                check=False,
            )
            results = [line for line in process.stdout.splitlines() if line.startswith(RESULT)]
            return StandInRun(
                result=json.loads(results[-1].removeprefix(RESULT)) if results else None,
                returncode=process.returncode,
                output=process.stdout,
                errors=process.stderr,
                log=read_log(log),
            )
