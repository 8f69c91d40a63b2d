"""Ed25519 signatures over the manifest's bytes, checked before the manifest is parsed.

The manifest holds the SHA-256 of every other file, so one signature covers the bundle. `manifest.sig` is JSON with the
raw signature and the short name of its key, in base64 and hexadecimal.
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

from alterbute.bundle import typed_json
from alterbute.errors import BundleError, EngineError, InputError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

SIGNATURE_FILE: Final = "manifest.sig"
SIGNATURE_LIMIT_BYTES: Final = 4096
KEY_BYTES: Final = 32
_DOMAIN: Final = b"alterbute bundle manifest 1\n"
"""Prefix of the signed bytes, so that a signature of something else is never valid for a bundle."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Signature:
    """The content of `manifest.sig`."""

    algorithm: Literal["ed25519"]
    key: str
    signature: str


@dataclass(frozen=True, slots=True)
class TrustKey:
    """A public key of 32 bytes, and its origin for messages."""

    data: bytes
    origin: str

    @property
    def name(self) -> str:
        """Short name of the key: sixteen hexadecimal digits."""
        return key_name(self.data)


def key_name(public: bytes) -> str:
    """The short name of a public key."""
    return hashlib.sha256(public).hexdigest()[:16]


def signed_text(manifest: bytes) -> bytes:
    """The bytes that are signed for a manifest."""
    return _DOMAIN + manifest


def read_trust_keys(keys: Iterable[str | Path | bytes]) -> tuple[TrustKey, ...]:
    """Read public keys: 32 raw bytes each, or files that hold one in base64, as `alterbute-export sign` writes them.

    Raises:
        InputError: a key is not readable, or is not an Ed25519 public key.
    """
    return tuple(_read_key(key) for key in keys)


def check_signature(manifest: bytes, text: bytes | None, keys: tuple[TrustKey, ...]) -> str:
    """Check a signature; returns the name of the trusted key that made it.

    Args:
        manifest: Bytes of `manifest.json`.
        text: Content of `manifest.sig`, or None where there is none.
        keys: The trusted keys.

    Raises:
        BundleError: there is no signature, or it is not a trusted key's over these bytes.
        EngineError: the package that checks signatures is not installed.
    """
    trusted = ", ".join(key.name for key in keys)
    if text is None:
        raise BundleError("the bundle is not signed", f"{SIGNATURE_FILE} by one of the keys {trusted}", _MEND)
    signature = _parse(text)
    for key in keys:
        if key.name == signature.key:
            _verify(key, _decode(signature), manifest)
            return key.name
    raise BundleError(f"the bundle is signed by key {signature.key[:32]!r}", f"one of {trusted}", _MEND)


_MEND: Final = "get the bundle from whom you trust, or trust its maker's key"


def _parse(text: bytes) -> Signature:
    try:
        return typed_json.build(Signature, typed_json.parse(text))
    except ValueError as fault:
        seen = f"key `{fault.key}` is {fault.seen}" if isinstance(fault, typed_json.KeyFault) else str(fault)
        raise BundleError(f"{SIGNATURE_FILE} is malformed ({seen})", "an Ed25519 signature", _MEND) from None


def _decode(signature: Signature) -> bytes:
    try:
        data = base64.b64decode(signature.signature, validate=True)
    except (binascii.Error, ValueError):
        data = b""
    if len(data) != 64:
        raise BundleError(f"{SIGNATURE_FILE} is malformed", "64 bytes in base64", _MEND)
    return data


def _verify(key: TrustKey, signature: bytes, manifest: bytes) -> None:
    public = _load(key.data)
    from cryptography.exceptions import InvalidSignature

    try:
        public.verify(signature, signed_text(manifest))
    except InvalidSignature:
        raise BundleError(
            f"the signature of key {key.name} does not fit manifest.json",
            "the manifest that was signed",
            "the bundle was altered after it was signed: get it again, or sign it again if the change was yours",
        ) from None


def _load(data: bytes) -> Ed25519PublicKey:
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
        data, origin = key, "the key given"
    else:
        origin = str(key)
        try:
            with open(key, "rb") as file:
                data = base64.b64decode(file.read(SIGNATURE_LIMIT_BYTES).strip(), validate=True)
        except OSError as fault:
            raise _bad_key(f"the key {origin} cannot be read ({fault.strerror})") from None
        except (binascii.Error, ValueError):
            raise _bad_key(f"the key {origin} is not base64") from None
    if len(data) != KEY_BYTES:
        raise _bad_key(f"{origin} has {len(data)} bytes")
    return TrustKey(data, origin)


def _bad_key(seen: str) -> InputError:
    return InputError(
        seen,
        "an Ed25519 public key of 32 bytes",
        "give the .pub file of `alterbute-export sign`",
        "trust_keys",
        "key_unusable",
    )
