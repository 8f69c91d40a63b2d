"""Generation of Ed25519 keys and signing of bundles; `alterbute.bundle.signature` verifies the signatures."""

from __future__ import annotations

import base64
import os
from pathlib import Path

from alterbute.bundle import MANIFEST_FILE, SIGNATURE_FILE, typed_json, verify_bundle
from alterbute.bundle.signature import Signature, key_name, signed_text
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from alterbute_export.errors import OutputError


def make_key(path: Path) -> Path:
    """Write a new private key, readable by its owner alone, and its public key beside it.

    Returns:
        The public key's path: the private key's with the ending `.pub`.

    Raises:
        OutputError: either file exists already, or cannot be written.
    """
    key = Ed25519PrivateKey.generate()
    public = path.with_suffix(".pub")
    private_text = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    _create(path, private_text, 0o600)
    _create(public, base64.b64encode(_public_bytes(key)) + b"\n", 0o644)
    return public


def sign_bundle(path: str | Path, key_path: Path) -> str:
    """Verify a bundle, sign its manifest, and write the signature to `manifest.sig`.

    Returns:
        The key's short name.

    Raises:
        BundleError: a file of the bundle differs from its hash in the manifest.
        OutputError: the key cannot be used, or the signature cannot be written.
    """
    key = read_private_key(key_path)
    bundle = verify_bundle(path)
    text = make_signature((bundle.path / MANIFEST_FILE).read_bytes(), key)
    temporary = bundle.path / f"{SIGNATURE_FILE}.new"
    temporary.write_text(text, encoding="utf-8", newline="\n")
    os.replace(temporary, bundle.path / SIGNATURE_FILE)
    return key_name(_public_bytes(key))


def make_signature(manifest: bytes, key: Ed25519PrivateKey) -> str:
    """The text of `manifest.sig` for these manifest bytes."""
    signature = base64.b64encode(key.sign(signed_text(manifest))).decode()
    return typed_json.dump(Signature(algorithm="ed25519", key=key_name(_public_bytes(key)), signature=signature))


def read_private_key(path: Path) -> Ed25519PrivateKey:
    """An Ed25519 private key from a PEM file.

    Raises:
        OutputError: it cannot be read, or is another kind of key.
    """
    fix = "make one with `alterbute-export sign BUNDLE --key KEY --new`"
    try:
        key = load_pem_private_key(path.read_bytes(), password=None)
    except OSError as fault:
        raise OutputError(
            f"the key {path} cannot be read ({fault.strerror})", "an Ed25519 private key in PEM", fix
        ) from None
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise OutputError(
            f"the key {path} is no plain PEM private key", "an Ed25519 private key without a password", fix
        ) from None
    if not isinstance(key, Ed25519PrivateKey):
        raise OutputError(f"the key {path} is {type(key).__name__}", "an Ed25519 private key", fix)
    return key


def _public_bytes(key: Ed25519PrivateKey) -> bytes:
    data: bytes = key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    return data


def _create(path: Path, data: bytes, mode: int) -> None:
    """Write a new file, which has its final permissions before it has content; an existing file is never replaced."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    except OSError as fault:
        raise OutputError(
            f"{path} cannot be written ({fault.strerror})",
            "a new file in a folder that is writable",
            "choose another name",
        ) from None
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
