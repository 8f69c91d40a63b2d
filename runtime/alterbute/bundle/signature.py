"""Ed25519 signatures over the manifest's bytes, checked before the manifest is parsed.

The manifest holds the SHA-256 of every other file, so one signature covers the bundle. `manifest.sig` is JSON with the
raw signature in base64 and the short name of its key in hexadecimal.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import importlib.util
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from alterbute.bundle import strict_json, typed_json
from alterbute.errors import BundleError, EngineError, InputError
from alterbute.plain_file import read_plain_file

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

    Args:
        keys: The keys; a list that came out empty is an error, because it is no wish for no check.

    Raises:
        InputError: there are none, or one cannot be read, or is not an Ed25519 public key that a signer can have.
    """
    if isinstance(keys, str | bytes | Path):
        raise _key_error("one key is given where a list of keys belongs")
    read = tuple(_read_key(key) for key in keys)
    check_trust_keys(read)
    return read


def check_trust_keys(keys: Sequence[TrustKey] | None) -> None:
    """Refuse a list of trusted keys that is empty; None is accepted, and asks for no check.

    Raises:
        InputError: the list is empty.
    """
    if keys is not None and not keys:
        raise InputError(
            "the list of trusted keys is empty",
            "a key, or None for no check of the signature",
            "name a key, or leave the argument out",
            "trust_keys",
            "key_unusable",
        )


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
        if not origin:
            raise _key_error("the key's path is empty")
        try:
            data = base64.b64decode(read_plain_file(key, SIGNATURE_LIMIT_BYTES).strip(), validate=True)
        except OSError as fault:
            raise _key_error(f"the key {origin} cannot be read ({fault.strerror or fault})") from None
        except (binascii.Error, ValueError):
            raise _key_error(f"the key {origin} is not base64") from None
    if len(data) != KEY_BYTES:
        raise _key_error(f"{origin} has {len(data)} bytes")
    if not _is_strong(data):
        raise _key_error(f"{origin} is no key that a signer can have: signatures that anyone can make would fit it")
    return TrustKey(data, origin)


def _is_strong(key: bytes) -> bool:
    """Whether 32 bytes encode a point of the curve in the one way that RFC 8032 allows (section 5.1.3), and not one of small order.

    For a point of small order there are signatures that fit many messages, made without any secret.
    """
    y = int.from_bytes(key, "little") & ((1 << 255) - 1)
    if y >= _PRIME or y in _SMALL_ORDER:
        return False
    square = (y * y - 1) * pow(_CURVE * y * y + 1, -1, _PRIME) % _PRIME
    return pow(square, (_PRIME - 1) // 2, _PRIME) == 1


_PRIME: Final = 2**255 - 19
_CURVE: Final = -121665 * pow(121666, -1, _PRIME) % _PRIME
_ORDER_8: Final = int.from_bytes(
    bytes.fromhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"), "little"
)
_SMALL_ORDER: Final = frozenset({0, 1, _PRIME - 1, _ORDER_8, _PRIME - _ORDER_8})
"""The y of every point whose order is 1, 2, 4 or 8."""


def _key_error(seen: str) -> InputError:
    return InputError(
        seen,
        "an Ed25519 public key of 32 bytes",
        "give the .pub file of `alterbute-export sign`",
        "trust_keys",
        "key_unusable",
    )
