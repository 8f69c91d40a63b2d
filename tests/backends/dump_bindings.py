"""Prints, as JSON, what an engine library's Python module really has: run in a process of its own.

python dump_bindings.py tensorrt FOLDER     the real bindings, over the stand-in libraries in FOLDER
python dump_bindings.py tensorrt_rtx        the real module
python dump_bindings.py cuda                cuda.bindings.runtime
"""

from __future__ import annotations

import ctypes
import importlib
import json
import sys
from pathlib import Path
from typing import Any


def describe(value: Any) -> Any:
    """A class as its members, a function as its docstring (pybind11 and Cython write signatures there)."""
    if isinstance(value, type):
        members = {}
        for name in dir(value):
            if not name.startswith("__") or name == "__init__":
                member = getattr(value, name, None)
                members[name] = describe(member) if isinstance(member, type) else (getattr(member, "__doc__", "") or "")
        return members
    return getattr(value, "__doc__", "") or ""


def main(name: str, folder: str = "") -> None:
    if name == "tensorrt":
        for library in ("libnvinfer.so.11", "libnvonnxparser.so.11", "libnvinfer_plugin.so.11"):
            ctypes.CDLL(str(Path(folder) / library), mode=ctypes.RTLD_GLOBAL)
    module = importlib.import_module({"tensorrt": "tensorrt_bindings", "cuda": "cuda.bindings.runtime"}.get(name, name))
    print(json.dumps({key: describe(getattr(module, key)) for key in dir(module)}, default=str))


if __name__ == "__main__":
    main(*sys.argv[1:])
