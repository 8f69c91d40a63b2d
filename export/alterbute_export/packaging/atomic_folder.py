"""Output folders that appear complete or not at all; an interrupted command leaves no partial folder behind."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from alterbute.bundle import MANIFEST_FILE

from alterbute_export.errors import OutputError


def check_target(target: Path) -> None:
    """Refuse an output folder that exists and is neither a bundle nor empty.

    Raises:
        OutputError: the folder must not be replaced.
    """
    if not target.exists() and not target.is_symlink():
        return
    replaceable = target.is_dir() and ((target / MANIFEST_FILE).is_file() or not any(target.iterdir()))
    if not replaceable or target.is_symlink():
        raise OutputError(
            f"the output {target} exists and is no bundle", "a new name, or a bundle to replace", "choose another -o"
        )


@contextmanager
def atomic_folder(target: Path) -> Iterator[Path]:
    """A temporary folder beside `target`: it replaces `target` when the block ends, and is deleted if the block raises.

    Raises:
        OutputError: the folder cannot be created.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    except OSError as fault:
        raise OutputError(
            f"the output {target} cannot be written ({fault.strerror})", "a writable folder", "choose another -o"
        ) from None
    try:
        yield temporary
        temporary.chmod(0o755)
        _swap(temporary, target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def replaced_content(folder: Path) -> Iterator[Path]:
    """An empty folder inside `folder`: its content replaces all other content of `folder` when the block ends without an error."""
    written = Path(tempfile.mkdtemp(prefix=".new.", dir=folder))
    yield written
    for path in folder.iterdir():
        if path == written:
            continue
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
    for path in written.iterdir():
        os.replace(path, folder / path.name)
    written.rmdir()


def _swap(temporary: Path, target: Path) -> None:
    """Rename the finished folder to its target; an earlier target is moved aside first, so that the two are never mixed."""
    aside = temporary.with_name(f"{temporary.name}.old")
    if target.exists():
        os.replace(target, aside)
    os.replace(temporary, target)
    shutil.rmtree(aside, ignore_errors=True)


@contextmanager
def changed_bundle(folder: Path) -> Iterator[Path]:
    """A copy of a bundle to add files to: it replaces the bundle when the block ends without an error.

    The copy has no manifest. Files are copied, not hard-linked, because loaders of weights refuse a file with several links.
    """
    with atomic_folder(folder.resolve()) as copy:
        for path in sorted(folder.rglob("*")):
            target = copy / path.relative_to(folder)
            if path.is_dir():
                target.mkdir()
            elif path.name != MANIFEST_FILE:
                shutil.copyfile(path, target)
        yield copy
