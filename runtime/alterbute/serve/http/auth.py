"""API keys: only hashes are kept, and they are compared in constant time."""

from __future__ import annotations

import hashlib
import hmac
from pathlib import Path
from typing import Final

from alterbute.errors import InputError
from alterbute.serve.http.key_file import ApiKey, read_key_file

_MIN_LENGTH: Final = 8


class Keyring:
    """The accepted API keys; an empty keyring accepts every request."""

    def __init__(self, keys: tuple[ApiKey, ...] = ()) -> None:
        self._keys = keys

    @property
    def is_open(self) -> bool:
        """Whether no key is required."""
        return not self._keys

    def find(self, authorization: str | None) -> ApiKey | None:
        """The key that an `Authorization: Bearer ...` header holds, or None; every key is compared, in constant time.

        The header's bytes are hashed, so that a key that is not ASCII matches if the client sends it in UTF-8.
        """
        try:
            # ASGI servers and Starlette decode headers as Latin-1, which is undone here.
            header = (authorization or "").encode("latin-1")
        except UnicodeEncodeError:
            return None
        scheme, _, key_text = header.partition(b" ")
        sent = key_text.strip(b" \t")
        digest = hashlib.sha256(sent).digest()
        accepted = None
        for key in self._keys:
            if hmac.compare_digest(key.digest, digest):
                accepted = key
        return accepted if sent and scheme.lower() == b"bearer" else None

    def replace(self, keys: tuple[ApiKey, ...]) -> tuple[int, int]:
        """Accept these keys from now on, in place of the present ones; at no moment are there fewer or others.

        Returns:
            The numbers of added and of removed keys.

        Raises:
            ValueError: there is no key among them, which would open the server.
        """
        if not keys:
            raise ValueError("a keyring cannot be replaced by an empty one")
        old, new = ({key.digest for key in every} for every in (self._keys, keys))
        self._keys = keys
        return len(new - old), len(old - new)


def open_keyring(api_key: str | None, api_key_file: str | None) -> Keyring:
    """Make the keyring of the API keys that the settings name; an open one if they name none.

    Raises:
        InputError: as `read_keys`.
    """
    return Keyring(read_keys(api_key, api_key_file))


def read_keys(api_key: str | None, api_key_file: str | None) -> tuple[ApiKey, ...]:
    """Read the API keys that the settings name.

    Raises:
        InputError: a key that is empty, short or cannot be sent in a header, or a key file that `read_key_file` refuses.
    """
    keys = []
    if api_key is not None:
        _check_key(api_key)
        keys.append(ApiKey(digest=hashlib.sha256(api_key.encode()).digest(), name="default"))
    if api_key_file is not None:
        keys += read_key_file(Path(api_key_file))
    return tuple(keys)


def _check_key(api_key: str) -> None:
    if not api_key.strip():
        seen, code = "the API key is empty", "api_key_empty"
    elif api_key != api_key.strip() or not api_key.isprintable():
        seen, code = (
            "the API key has a line break or another invisible character, or a space at an end",
            "api_key_invisible",
        )
    elif len(api_key) < _MIN_LENGTH:
        seen, code = f"the API key is shorter than {_MIN_LENGTH} characters", "api_key_short"
    else:
        return
    raise InputError(
        seen,
        "a long random string, as it is sent in the header Authorization",
        "check that the variable it comes from is set and has no line break at its end, or choose another key",
        "api_key",
        code,
    )
