"""What takes long to make is made once, by one of the processes that share the tests, and kept between runs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from filelock import FileLock


def keep(folder: Path, marker: str, make: Callable[[Path], object]) -> Path:
    """`folder`, made if its last file is not there yet."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_name(f".{folder.name}.lock")):
        if not (folder / marker).is_file():
            make(folder)
    return folder
