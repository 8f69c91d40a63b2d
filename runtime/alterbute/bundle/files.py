"""Reads a bundle's files: without following links, and hashing them each time."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from alterbute.bundle.manifest import MANIFEST_FILE, FileEntry, Manifest
from alterbute.bundle.manifest_file import parse_manifest
from alterbute.bundle.signature import (
    SIGNATURE_FILE,
    SIGNATURE_LIMIT_BYTES,
    TrustKey,
    check_signature,
    check_trust_keys,
)
from alterbute.errors import BundleError
from alterbute.plain_file import open_file

_MANIFEST_LIMIT_BYTES: Final = 4 << 20
_CHUNK_BYTES: Final = 1 << 20
# Files of a bundle that its manifest does not list.
_UNLISTED: Final = frozenset({MANIFEST_FILE, SIGNATURE_FILE})


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """A bundle folder with a checked manifest; files are verified each time they are read.

    Args:
        path: The folder.
        manifest: The parsed manifest.
        sha256: SHA-256 of the manifest's bytes, in hexadecimal; the manifest holds those of all files.
        signed_by: Name of the trusted key that signed the manifest; None if it was opened without trusted keys.
    """

    path: Path
    manifest: Manifest
    sha256: str
    signed_by: str | None = None

    def read(self, name: str) -> bytes:
        """Read one file and check its SHA-256; exactly the bytes that were hashed are returned.

        The caller holds the only copy; release it when the engine library has copied the bytes.

        Raises:
            BundleError: the file is missing, is a link, or differs from the size or SHA-256 in the manifest.
        """
        entry = self.manifest.files.get(name)
        if entry is None:
            raise BundleError(
                f"the bundle {self.path} lists no file {name!r}", "a file of its manifest", "export the bundle again"
            )
        with _open(self.path, name) as file:
            _check_size(name, os.fstat(file.fileno()).st_size, entry)
            data = _read(file, name, entry.size)
        _check_hash(name, hashlib.sha256(data).hexdigest(), entry)
        return data

    def copy(self, name: str, target: BinaryIO) -> None:
        """Copy one file to `target` in constant memory, and check its SHA-256 at the end.

        Raises:
            BundleError: the file cannot be read or is not the manifest's; discard what was written to `target`.
        """
        entry = self.manifest.files[name]
        with _open(self.path, name) as file:
            _check_size(name, os.fstat(file.fileno()).st_size, entry)
            _check_hash(name, _stream_hash(file, name, target), entry)

    def has(self, name: str) -> bool:
        """Whether the manifest lists this file."""
        return name in self.manifest.files


def open_bundle(path: str | Path, *, trust_keys: tuple[TrustKey, ...] | None = None) -> Bundle:
    """Open a bundle and check its manifest and file list. Files are hashed later, when `Bundle.read` reads them.

    Args:
        path: The bundle's folder.
        trust_keys: One of them must have signed the manifest; None asks for no check.

    Raises:
        InputError: `trust_keys` is empty.
        BundleError: the folder does not exist, the manifest is invalid, no trusted key signed it, or a file is missing,
            unlisted, a link or of another size.
    """
    check_trust_keys(trust_keys)
    folder = _folder_path(path)
    text = _read_manifest_text(folder)
    # The signature is checked before anything is parsed.
    signed_by = check_signature(text, _read_signature(folder), trust_keys) if trust_keys is not None else None
    manifest = parse_manifest(text)
    sizes = dict(_list_files(folder))
    for name in sorted(sizes.keys() - manifest.files.keys() - _UNLISTED):
        raise BundleError(
            f"the bundle holds {name!r}, which its manifest does not list",
            "only files of the manifest",
            "remove that file, or export the bundle again",
        )
    for name, entry in manifest.files.items():
        if name not in sizes:
            raise BundleError(
                f"the bundle's file {name!r} is missing", f"{entry.size} bytes", "copy the whole bundle folder again"
            )
        _check_size(name, sizes[name], entry)
    digest = hashlib.sha256(text).hexdigest()
    return Bundle(path=folder, manifest=manifest, sha256=digest, signed_by=signed_by)


def verify_bundle(path: str | Path, *, trust_keys: tuple[TrustKey, ...] | None = None) -> Bundle:
    """Open a bundle and hash every file, in constant memory; arguments as for `open_bundle`.

    Raises:
        InputError: `trust_keys` is empty.
        BundleError: `open_bundle` refuses the bundle, or a file differs from the SHA-256 in the manifest.
    """
    bundle = open_bundle(path, trust_keys=trust_keys)
    for name, entry in bundle.manifest.files.items():
        with _open(bundle.path, name) as file:
            _check_hash(name, _stream_hash(file, name), entry)
    return bundle


def describe_files(folder: str | Path) -> dict[str, FileEntry]:
    """SHA-256 and size of every file except the manifest and its signature, sorted by name, for `Manifest.files`."""
    root = Path(folder)
    entries = {}
    for name, size in sorted(_list_files(root)):
        if name not in _UNLISTED:
            with _open(root, name) as file:
                entries[name] = FileEntry(sha256=_stream_hash(file, name), size=size)
    return entries


def default_bundle_path() -> Path:
    """Path of the demo bundle: in an installed wheel, or `engines/demo` of a checkout."""
    package = Path(__file__).resolve().parents[1]
    candidates = (package / "demo_bundle", package.parents[1] / "engines" / "demo")
    for candidate in candidates:
        if (candidate / MANIFEST_FILE).is_file():
            return candidate
    raise BundleError(
        "this installation has no demo bundle",
        f"one at {candidates[0]} or {candidates[1]}",
        "name a bundle folder with --bundle, or install the alterbute wheel again",
    )


def read_manifest(path: str | Path) -> Manifest:
    """Read and check the manifest of a bundle folder; it may not be a link, or larger than 4 MiB.

    Raises:
        BundleError: the folder or manifest does not exist, or `parse_manifest` refuses the manifest.
    """
    return parse_manifest(_read_manifest_text(_folder_path(path)))


def _read_manifest_text(folder: Path) -> bytes:
    try:
        is_folder = stat.S_ISDIR(folder.stat().st_mode)
        problem = "is not a folder"
    except OSError as fault:
        is_folder = False
        is_missing = isinstance(fault, FileNotFoundError)
        problem = "does not exist" if is_missing else f"cannot be opened ({fault.strerror})"
    if not is_folder:
        raise BundleError(f"the bundle {folder} {problem}", "a folder with manifest.json", "give the bundle's folder")
    with _open(folder, MANIFEST_FILE) as file:
        data = _read(file, MANIFEST_FILE, _MANIFEST_LIMIT_BYTES + 1)
    if len(data) > _MANIFEST_LIMIT_BYTES:
        raise BundleError(
            f"{MANIFEST_FILE} is over {_MANIFEST_LIMIT_BYTES} bytes", "a small JSON file", "export the bundle again"
        )
    return data


def _read_signature(folder: Path) -> bytes | None:
    """Read the first 4 KiB of the signature file, which may not be a link; None if there is no signature."""
    if not os.path.lexists(folder / SIGNATURE_FILE):
        return None
    with _open(folder, SIGNATURE_FILE) as file:
        return _read(file, SIGNATURE_FILE, SIGNATURE_LIMIT_BYTES)


def _list_files(folder: Path) -> Iterator[tuple[str, int]]:
    """Name and size of every file, at most one folder deep; links, deeper folders and devices are refused."""
    try:
        for prefix, parent in [("", folder), *((f"{d.name}/", d) for d in sorted(folder.iterdir()) if _is_folder(d))]:
            for path in sorted(parent.iterdir()):
                if not prefix and _is_folder(path):
                    continue
                status = path.lstat()
                _check_kind(prefix + path.name, status)
                yield prefix + path.name, status.st_size
    except OSError as fault:
        # A file or folder went away between its listing and the look at it, or is not readable.
        raise BundleError(
            f"the bundle {folder} cannot be listed ({fault.strerror})",
            "a folder that does not change while it is opened",
            "copy the whole bundle folder again, and open it when the copy is done",
        ) from None


def _is_folder(path: Path) -> bool:
    return stat.S_ISDIR(path.lstat().st_mode)


def _open(folder: Path, name: str) -> BinaryIO:
    try:
        file = open_file(folder / name, follow=False)
    except FileNotFoundError:
        raise BundleError(
            f"the bundle {folder} has no {name}", "a complete bundle", "copy the whole bundle folder again"
        ) from None
    except OSError as fault:
        # ELOOP is how O_NOFOLLOW reports a symbolic link.
        raise BundleError(
            f"the bundle's file {name!r} cannot be opened ({fault.strerror})",
            "a readable plain file, not a link",
            "copy the bundle with plain files",
        ) from None
    try:
        _check_kind(name, os.fstat(file.fileno()))
    except BundleError:
        file.close()
        raise
    return file


def _read(file: BinaryIO, name: str, size: int) -> bytes:
    """Read up to `size` bytes; the disk may fail."""
    try:
        return file.read(size) or b""
    except OSError as fault:
        raise BundleError(
            f"the bundle's file {name!r} cannot be read ({fault.strerror})",
            "a file on a disk that works",
            "copy the whole bundle folder again, to another disk",
        ) from None


def _folder_path(path: str | Path) -> Path:
    """The path of a bundle's folder; an empty one, or one with a NUL, is none."""
    if not str(path) or "\0" in str(path):
        raise BundleError(
            f"the bundle's path is {str(path)!r}", "a folder with manifest.json", "give the bundle's folder"
        )
    return Path(path)


def _check_kind(name: str, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise BundleError(
            f"the bundle's {name!r} is a link, a deeper folder or a device",
            "plain files, at most one folder deep",
            "copy the bundle with plain files (cp -rL)",
        )
    # Through a second hard link that other users can write, bytes can be swapped under a running server. A hard link that
    # only its owner can write is how uv installs wheels, and is harmless: bytes are hashed after they were read.
    if status.st_nlink > 1 and status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise BundleError(
            f"the bundle's {name!r} is hard-linked and writable by others",
            "a file with one name, or one that only its owner can write",
            "copy the bundle afresh, or run `chmod go-w` on it",
        )


def _check_size(name: str, size: int, entry: FileEntry) -> None:
    if size != entry.size:
        raise BundleError(
            f"the bundle's {name!r} has {size} bytes", f"{entry.size}", "copy the whole bundle folder again"
        )


def _check_hash(name: str, digest: str, entry: FileEntry) -> None:
    if digest != entry.sha256:
        raise BundleError(
            f"the bundle's {name!r} has SHA-256 {digest[:12]}...",
            f"{entry.sha256[:12]}...",
            "the file was damaged or altered: get the bundle again from a source that you trust",
        )


def _stream_hash(file: BinaryIO, name: str, copy: BinaryIO | None = None) -> str:
    digest = hashlib.sha256()
    while chunk := _read(file, name, _CHUNK_BYTES):
        digest.update(chunk)
        if copy is not None:
            copy.write(chunk)
    return digest.hexdigest()
