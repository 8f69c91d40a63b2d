"""Ed25519 signatures over the manifest's bytes, checked before the manifest is parsed.

The manifest holds the SHA-256 of every other file, so one signature covers the bundle. `manifest.sig` is JSON with the
raw signature in base64 and the short name of its key in hexadecimal.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import importlib.util
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from alterbute.bundle import strict_json, typed_json
from alterbute.errors import BundleError, EngineError, InputError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

SIGNATURE_FILE: Final = "manifest.sig"
SIGNATURE_LIMIT_BYTES: Final = 4096
KEY_BYTES: Final = 32
_DOMAIN: Final = b"alterbute bundle manifest 1\n"
"""Prefix of the signed bytes, so that a signature made for another purpose is never valid for a bundle."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Signature:
    """The content of `manifest.sig`: algorithm, short name of the key, and the signature in base64."""

    algorithm: Literal["ed25519"]
    key: str
    signature: str


@dataclass(frozen=True, slots=True)
class TrustKey:
    """A public key of 32 bytes, and the file that it was read from, for messages."""

    data: bytes
    origin: str

    @property
    def name(self) -> str:
        """Short name of the key: 16 hexadecimal digits."""
        return key_name(self.data)


def key_name(public: bytes) -> str:
    """The short name of a public key: the first 16 hexadecimal digits of its SHA-256."""
    return hashlib.sha256(public).hexdigest()[:16]


def signed_text(manifest: bytes) -> bytes:
    """The bytes that are signed for a manifest: a fixed prefix and the manifest's bytes."""
    return _DOMAIN + manifest


def read_trust_keys(keys: Iterable[str | Path | bytes]) -> tuple[TrustKey, ...]:
    """Read public keys: each is 32 raw bytes, or a file with a key in base64, as `alterbute-export sign` writes it.

    Raises:
        InputError: a key cannot be read, or is not an Ed25519 public key.
    """
    return tuple(_read_key(key) for key in keys)


def check_signature(manifest: bytes, text: bytes | None, keys: tuple[TrustKey, ...]) -> str:
    """Check a manifest's signature; returns the short name of the trusted key that made it.

    Args:
        manifest: Bytes of `manifest.json`.
        text: Bytes of `manifest.sig`; None if there is no such file.
        keys: The trusted keys.

    Raises:
        BundleError: there is no signature, or no trusted key made it, or it is not of these bytes.
        EngineError: the package that checks signatures is not installed.
    """
    trusted = ", ".join(key.name for key in keys)
    if text is None:
        raise BundleError("the bundle is not signed", f"{SIGNATURE_FILE} by one of the keys {trusted}", _SIGNATURE_FIX)
    signature = _parse(text)
    for key in keys:
        if key.name == signature.key:
            _verify(key, _decode(signature), manifest)
            return key.name
    raise BundleError(f"the bundle is signed by key {signature.key[:32]!r}", f"one of {trusted}", _SIGNATURE_FIX)


_SIGNATURE_FIX: Final = "get the bundle from a source that you trust, or trust its signer's key"


def _parse(text: bytes) -> Signature:
    try:
        return typed_json.build(Signature, strict_json.parse_json(text))
    except ValueError as fault:
        seen = f"key `{fault.key}` is {fault.seen}" if isinstance(fault, typed_json.KeyFault) else str(fault)
        raise BundleError(f"{SIGNATURE_FILE} is malformed ({seen})", "an Ed25519 signature", _SIGNATURE_FIX) from None


def _decode(signature: Signature) -> bytes:
    try:
        data = base64.b64decode(signature.signature, validate=True)
    except (binascii.Error, ValueError):
        data = b""
    if len(data) != 64:
        raise BundleError(f"{SIGNATURE_FILE} is malformed", "64 bytes in base64", _SIGNATURE_FIX)
    return data


def _verify(key: TrustKey, signature: bytes, manifest: bytes) -> None:
    public_key = _load_public_key(key.data)
    from cryptography.exceptions import InvalidSignature

    try:
        public_key.verify(signature, signed_text(manifest))
    except InvalidSignature:
        raise BundleError(
            f"the signature of key {key.name} does not fit manifest.json",
            "the manifest that was signed",
            "the bundle was altered after it was signed: get it again, or sign it again if the change was yours",
        ) from None


def _load_public_key(data: bytes) -> Ed25519PublicKey:
    if importlib.util.find_spec("cryptography") is None:
        raise EngineError(
            "the package cryptography is not installed",
            "it, to check signatures",
            "run `pip install 'alterbute[sign]'`",
        )
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    return Ed25519PublicKey.from_public_bytes(data)


def _read_key(key: str | Path | bytes) -> TrustKey:
    if isinstance(key, bytes):
        data, origin = key, "the key passed as bytes"
    else:
        origin = str(key)
        try:
            with open(key, "rb") as file:
                data = base64.b64decode(file.read(SIGNATURE_LIMIT_BYTES).strip(), validate=True)
        except OSError as fault:
            raise _key_error(f"the key {origin} cannot be read ({fault.strerror})") from None
        except (binascii.Error, ValueError):
            raise _key_error(f"the key {origin} is not base64") from None
    if len(data) != KEY_BYTES:
        raise _key_error(f"{origin} has {len(data)} bytes")
    return TrustKey(data, origin)


def _key_error(seen: str) -> InputError:
    return InputError(
        seen,
        "an Ed25519 public key of 32 bytes",
        "give the .pub file of `alterbute-export sign`",
        "trust_keys",
        "key_unusable",
    )
