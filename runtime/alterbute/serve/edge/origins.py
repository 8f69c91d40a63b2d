"""Origins of web pages (RFC 6454): scheme, host and port, and the entries of `allowed_origins`."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from alterbute.errors import InputError
from alterbute.serve.edge.hosts import Authority, parse_authority

_ORIGIN: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]{0,31})://(.+)")
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where a page comes from; two pages may read each other's data if all three parts are equal.

    Args:
        scheme: In lower case; not only http and https, browser extensions have their own.
        host: As in `Authority`.
        port: The port, or the scheme's default port; None where the scheme has none.
    """

    scheme: str
    host: str
    port: int | None

    def __str__(self) -> str:
        """The origin as browsers write it in the `Origin` header."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}" + ("" if self.port == default_port(self.scheme) else f":{self.port}")


def default_port(scheme: str) -> int | None:
    """The port of a URL that names none: 80 for http, 443 for https, None for other schemes."""
    return _DEFAULT_PORTS.get(scheme)


def make_origin(scheme: str, authority: Authority) -> Origin:
    """The origin of a URL with this scheme, host and port."""
    port = default_port(scheme) if authority.port is None else authority.port
    return Origin(scheme=scheme, host=authority.host, port=port)


def parse_origin(text: str) -> Origin | None:
    """Parse an `Origin` header; None for `null`, several origins, a path, a user name, and anything else."""
    match = _ORIGIN.fullmatch(text)
    authority = parse_authority(match[2]) if match else None
    return make_origin(match[1].lower(), authority) if match and authority else None


def parse_allowed_origins(entries: Iterable[str]) -> frozenset[Origin] | None:
    """Parse the entries of `allowed_origins`; None means every origin (`*`).

    Raises:
        InputError: an entry is no origin, or `*` is not the only one.
    """
    texts = list(entries)
    if texts == ["*"]:
        return None
    origins = set()
    for text in texts:
        origin = parse_origin(text)
        if origin is None:
            raise InputError(
                f"allowed_origins has {text!r}",
                "origins such as https://edit.example.com or http://localhost:3000, or * alone for every page",
                "write scheme, host and port as the browser's address bar has them, without a path or a wildcard"
                + (" (null is the origin of every sandboxed page, as open as *)" if text == "null" else ""),
                "allowed_origins",
                "allowed_origins",
            )
        origins.add(origin)
    return frozenset(origins)
