"""API keys: only hashes are kept, and they are compared in constant time."""

from __future__ import annotations

import hashlib
import hmac
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from alterbute.errors import InputError

_LINE: Final = re.compile(r"([0-9a-f]{64})(?:\s+(\S+))?")


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKey:
    """An accepted key: its SHA-256, and its name in logs and rate limits."""

    digest: bytes
    name: str


class Keyring:
    """The accepted API keys; an empty keyring accepts every request."""

    def __init__(self, keys: tuple[ApiKey, ...] = ()) -> None:
        self._keys = keys

    @property
    def is_open(self) -> bool:
        """Whether no key is required."""
        return not self._keys

    def find(self, authorization: str | None) -> ApiKey | None:
        """The key that an `Authorization: Bearer ...` header holds, or None; every key is compared, in constant time."""
        scheme, _, key_text = (authorization or "").partition(" ")
        digest = hashlib.sha256(key_text.strip().encode("utf-8", "surrogateescape")).digest()
        accepted = None
        for key in self._keys:
            if hmac.compare_digest(key.digest, digest):
                accepted = key
        return accepted if scheme.lower() == "bearer" else None


def open_keyring(api_key: str | None, api_key_file: str | None) -> Keyring:
    """Read the API keys that the settings name.

    Raises:
        InputError: an empty key, or a key file that cannot be read.
    """
    keys = []
    if api_key is not None:
        if len(api_key) < 8:
            raise InputError(
                "the API key is shorter than 8 characters",
                "a long random string",
                "choose another",
                "api_key",
                "api_key_short",
            )
        keys.append(ApiKey(digest=hashlib.sha256(api_key.encode()).digest(), name="default"))
    if api_key_file is not None:
        keys += _read_keys(Path(api_key_file))
    return Keyring(tuple(keys))


def _read_keys(path: Path) -> list[ApiKey]:
    try:
        lines = path.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as fault:
        raise _file_error(path, f"cannot be read ({type(fault).__name__})") from None
    keys = []
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        match = _LINE.fullmatch(line.strip())
        if match is None:
            raise _file_error(path, f"has a line {number} that is no SHA-256 in hex and a name")
        keys.append(ApiKey(digest=bytes.fromhex(match[1]), name=match[2] or f"key-{number}"))
    if not keys:
        raise _file_error(path, "holds no key")
    return keys


def _file_error(path: Path, why: str) -> InputError:
    return InputError(
        f"the API key file {str(path)!r} {why}",
        "a line per key: its SHA-256 in hex, then a name",
        "make one with: printf %s KEY | sha256sum",
        "api_key_file",
        "api_key_file",
    )
