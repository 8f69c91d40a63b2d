"""Compiles the stand-in of CUDA, and checks that it has every function that ONNX Runtime's CUDA provider asks for."""

from __future__ import annotations

import mmap
import re
import subprocess
from pathlib import Path
from typing import Final

SOURCES: Final = Path(__file__).parent / "standin"
_RUNTIME: Final = ("settings", "process", "call", "faults", "memory", "streams", "capture", "kernels", "devices")
# Sources of each library. The driver's has no need of the runtime's.
LIBRARIES: Final = {
    "libcuda.so.1": ("settings", "driver"),
    "libcudart.so.13": _RUNTIME,
    "libcublas.so.13": ("cublas",),
    "libcublasLt.so.13": ("cublas_lt",),
    "libcudnn.so.9": ("cudnn", "cudnn_graph"),
    "libcurand.so.10": (),
}
# The provider asks for these with the library's name as the symbols' version.
_VERSIONED: Final = frozenset({"libcudart.so.13", "libcublas.so.13", "libcublasLt.so.13"})
_FLAGS: Final = (
    "-std=c++17",
    "-O1",
    "-fPIC",
    "-shared",
    "-Wall",
    "-Wextra",
    "-Werror",
    "-Wno-missing-field-initializers",
    "-fvisibility=default",
)


def build_libraries(folder: Path, include: Path, provider: Path) -> None:
    """Compile the libraries into a folder.

    Args:
        folder: Receives the libraries, and at last a file `built`.
        include: Folder of CUDA's headers.
        provider: ONNX Runtime's CUDA provider, `libonnxruntime_providers_cuda.so`.

    Raises:
        RuntimeError: the compiler fails, or the provider asks for functions that the stand-in does not have.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name, sources in LIBRARIES.items():
        _compile(folder, name, sources, include)
    missing = find_missing(folder, provider)
    if missing:
        raise RuntimeError(
            f"ONNX Runtime's CUDA provider asks for functions that the stand-in in {SOURCES} lacks: {', '.join(missing)}"
        )
    (folder / "built").touch()


def find_missing(folder: Path, provider: Path) -> list[str]:
    """Functions that the provider links against or looks up by name, and that no library of the folder has."""
    linked = {
        symbol.split("@")[0] for symbol in _symbols("--undefined-only", provider) if re.search(r"@libcu\w+\.so", symbol)
    }
    linked |= {symbol for symbol in _symbols("--undefined-only", provider) if re.fullmatch(r"cu[A-Z]\w+", symbol)}
    with provider.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        looked_up = {name.decode() for name in re.findall(rb"\0(cudnn[A-Z]\w+)(?=\0)", content)}
    present = {symbol.split("@")[0] for name in LIBRARIES for symbol in _symbols("--defined-only", folder / name)}
    return sorted((linked | looked_up) - present)


def _symbols(which: str, library: Path) -> list[str]:
    lines = _run(["nm", "-D", which, str(library)]).splitlines()
    return [line.split()[-1] for line in lines if line.strip()]


def _compile(folder: Path, name: str, sources: tuple[str, ...], include: Path) -> None:
    script = folder / f"{name}.map"
    script.write_text(f"{name} {{ global: *; }};\n")
    version = [f"-Wl,--version-script={script}"] if name in _VERSIONED else []
    runtime = (
        [] if name in ("libcuda.so.1", "libcudart.so.13", "libcurand.so.10") else [str(folder / "libcudart.so.13")]
    )
    files = [str(SOURCES / f"{source}.cpp") for source in sources] or ["-x", "c++", "/dev/null", "-x", "none"]
    _run(
        [
            "g++",
            *_FLAGS,
            f"-I{include}",
            f"-Wl,-soname,{name}",
            *version,
            "-o",
            str(folder / name),
            *files,
            *runtime,
            "-ldl",
        ]
    )


def _run(command: list[str]) -> str:
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        raise RuntimeError(f"{command[0]} fails with exit code {result.returncode}: {result.stderr[-3000:]}")
    return result.stdout
