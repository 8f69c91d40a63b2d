"""The C++ library built for a test run: what is missing is fetched or named, and what is built is kept between runs."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest
from filelock import FileLock

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "runtime" / "cpp"
BUILD = ROOT / "build" / "cpp"
HEADERS = BUILD / "headers"
# Optimised enough to run, and quick to compile.
FAST = ("-DCMAKE_BUILD_TYPE=Release", "-DCMAKE_CXX_FLAGS_RELEASE=-O1")


def require_tools() -> None:
    """Skip, with the reason, where the library cannot be built."""
    for tool in ("cmake", "c++"):
        if shutil.which(tool) is None:
            pytest.skip(f"no {tool} on this machine: `apt-get install cmake g++` brings both")
    if run(["c++", "-E", "-x", "c++", "-include", "openssl/evp.h", "/dev/null"], check=False).returncode != 0:
        pytest.skip("no OpenSSL headers on this machine: `apt-get install libssl-dev` brings them")
    with locked("headers"):
        fetched = run([SOURCE / "scripts" / "fetch_headers.sh", HEADERS], check=False)
    if fetched.returncode != 0:
        pytest.skip(f"headers of ONNX Runtime or nlohmann-json cannot be had: {fetched.stdout.strip()[-300:]}")


def library() -> Path:
    """The ONNX Runtime library of the Python wheel."""
    spec = importlib.util.find_spec("onnxruntime")
    assert spec is not None and spec.origin is not None
    return next((Path(spec.origin).parent / "capi").glob("libonnxruntime.so.*"))


def build(name: str, *settings: str, source: Path = SOURCE, targets: tuple[str, ...] = ()) -> Path:
    """Configure and build into `build/cpp/NAME`, which is kept: a second run compiles only what changed."""
    folder = BUILD / name
    generator = ["-G", "Ninja"] if shutil.which("ninja") else []
    with locked(name):
        run(["cmake", *generator, "-S", source, "-B", folder, f"-DALTERBUTE_HEADERS={HEADERS}", *settings])
        # `-j` without a number would be unlimited under make.
        wanted = [part for target in targets for part in ("--target", target)]
        run(["cmake", "--build", folder, "-j", str(os.cpu_count() or 1), *wanted])
    return folder


def locked(name: str) -> FileLock:
    """One process at a time: tests may run in several."""
    BUILD.mkdir(parents=True, exist_ok=True)
    return FileLock(BUILD / f"{name}.lock")


def run(
    command: Sequence[str | Path], *, check: bool = True, env: dict[str, str] | None = None, timeout_s: float = 900
) -> subprocess.CompletedProcess[str]:
    """A command whose output is shown when it fails."""
    done = subprocess.run(
        [str(part) for part in command],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, **(env or {})},
        timeout=timeout_s,
    )
    if check and done.returncode != 0:
        raise AssertionError(f"{' '.join(map(str, command))} failed ({done.returncode}):\n{done.stdout[-6000:]}")
    return done
