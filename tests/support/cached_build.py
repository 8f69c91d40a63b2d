"""Slow builds (checkpoints, bundles) run once, in one of the parallel test processes, and are cached between runs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from filelock import FileLock


def build_once(folder: Path, marker: str, make: Callable[[Path], object]) -> Path:
    """Return `folder`, built by `make` unless it holds the file `marker`, which `make` writes last.

    Args:
        folder: The cached folder.
        marker: Name of the last file that `make` writes.
        make: Writes the folder.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_name(f".{folder.name}.lock")):
        if not (folder / marker).is_file():
            make(folder)
    return folder
