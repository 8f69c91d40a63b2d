"""Installed packages of engine libraries, and those that overwrite each other's files."""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Final

# These packages all write the folder `onnxruntime`.
_DISTRIBUTIONS: Final = ("onnxruntime", "onnxruntime-gpu", "onnxruntime-directml", "onnxruntime-openvino")


def find_onnxruntime() -> dict[str, str]:
    """Version of each installed package that owns the folder from which `onnxruntime` is imported; two of them are a fault."""
    spec = importlib.util.find_spec("onnxruntime")
    folders = {Path(folder).resolve() for folder in (spec.submodule_search_locations or () if spec else ())}
    found = {}
    for name in _DISTRIBUTIONS:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            package = importlib.metadata.distribution(name)
            if Path(str(package.locate_file("onnxruntime"))).resolve() in folders:
                found[name] = package.version
    return found


def describe_conflict() -> str:
    """A line on several onnxruntime packages in one environment, with the cure; empty when there is none."""
    found = find_onnxruntime()
    if len(found) < 2:
        return ""
    return (
        f"{join_versions(found)} are both installed and overwrite each other's files; expected one of them; "
        f"run `pip uninstall -y {' '.join(found)}`, then `pip install 'alterbute[cuda]'` for a GPU, or 'alterbute[cpu]'"
    )


def installed_package(name: str) -> str | None:
    """Version of an installed package; None without it."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def join_versions(packages: Mapping[str, str]) -> str:
    """Names with their versions, as part of a sentence."""
    return " and ".join(f"{name} {version}" for name, version in packages.items())
