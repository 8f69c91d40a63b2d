"""Host names as requests and settings write them, and the rules of `allowed_hosts`."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, TypeAlias

from alterbute.errors import InputError

_Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network

_AUTHORITY: Final = re.compile(r"(?:\[([0-9A-Fa-f:.]{2,45})\]|([A-Za-z0-9_.-]{1,254}))(?::([0-9]{0,5}))?")
_LOOPBACK_V4: Final = ipaddress.IPv4Network("127.0.0.0/8")
_LOOPBACK_V6: Final = ipaddress.IPv6Address("::1")
_MAX_NAME: Final = 253
_MAX_LABEL: Final = 63
_MAX_PORT: Final = 65535


@dataclass(frozen=True, slots=True, kw_only=True)
class Authority:
    """A host and a port, as in `edit.example.com:8000`.

    Args:
        host: The name in lower case without a dot at its end, or the address in its shortest form, without brackets.
        port: The port; None if it was left out.
    """

    host: str
    port: int | None


def parse_authority(text: str) -> Authority | None:
    """Parse `name`, `address` or `[IPv6 address]`, each with or without `:port`; None for any other text.

    A user name, a path, white space and a zone are other texts. Only four decimal numbers are an IPv4 address: `127.1`,
    `0x7f000001` and `2130706433` are read as names, though some clients connect to 127.0.0.1 for them.
    """
    match = _AUTHORITY.fullmatch(text)
    if match is None:
        return None
    address_v6, name, digits = match.groups()
    host = _canonical_v6(address_v6) if address_v6 else _canonical_name(name)
    port = int(digits) if digits else None
    if host is None or (port is not None and port > _MAX_PORT):
        return None
    return Authority(host=host, port=port)


def is_loopback(host: str) -> bool:
    """Whether a name or address (without brackets or port) is reachable from this machine only.

    These are `localhost`, 127.0.0.0/8 and ::1. Any other name may resolve to any address, whatever it begins with.
    """
    if host.lower() in ("localhost", "localhost."):
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    return address == _LOOPBACK_V6 or address in _LOOPBACK_V4


@dataclass(frozen=True, slots=True, kw_only=True)
class HostRule:
    """One entry of `allowed_hosts`.

    Args:
        text: The entry as it was written.
        name: A name; with `is_suffix`, the part after `*.`.
        is_suffix: Whether names that end with `.name` match, and `name` itself does not.
        network: Addresses that match, in place of a name; None if there is a name or the rule is `*`.
        port: The port that a request has to name; None is any port.
    """

    text: str
    name: str = ""
    is_suffix: bool = False
    network: _Network | None = None
    port: int | None = None

    def matches(self, authority: Authority, default_port: int) -> bool:
        """Whether a request to this host is allowed; `default_port` is the port of a request that names none."""
        if self.text == "*":
            return True
        if self.port is not None and self.port != (default_port if authority.port is None else authority.port):
            return False
        if self.is_suffix:
            return authority.host.endswith(f".{self.name}")
        if self.network is None:
            return authority.host == self.name
        try:
            return ipaddress.ip_address(authority.host) in self.network
        except ValueError:
            return False


def parse_host_rules(entries: Iterable[str]) -> tuple[HostRule, ...]:
    """Parse the entries of `allowed_hosts`.

    Raises:
        InputError: an entry is none of the forms that the message lists.
    """
    return tuple(_parse_rule(entry) for entry in entries)


def _parse_rule(entry: str) -> HostRule:
    if entry == "*":
        return HostRule(text=entry)
    is_suffix = entry.startswith("*.")
    authority = parse_authority(entry.removeprefix("*."))
    network = _parse_network(entry if authority is None else authority.host)
    if (authority is None and network is None) or (is_suffix and network is not None):
        raise InputError(
            f"allowed_hosts has {entry!r}",
            "names (edit.example.com), *.names, addresses, networks (10.0.0.0/8) or *; a port may follow a name or address",
            "write the host alone, without scheme, path or user",
            "allowed_hosts",
            "allowed_hosts",
        )
    if authority is None or network is not None:
        return HostRule(text=entry, network=network, port=None if authority is None else authority.port)
    return HostRule(text=entry, name=authority.host, is_suffix=is_suffix, port=authority.port)


def _parse_network(text: str) -> _Network | None:
    try:
        return ipaddress.ip_network(text)
    except ValueError:
        return None


def _canonical_v6(text: str) -> str | None:
    try:
        return ipaddress.IPv6Address(text).compressed
    except ValueError:
        return None


def _canonical_name(text: str) -> str | None:
    name = text.lower().removesuffix(".")
    if len(name) > _MAX_NAME or any(not 0 < len(label) <= _MAX_LABEL for label in name.split(".")):
        return None
    # An address never has a dot at its end, so that it has one form only.
    return None if text.endswith(".") and is_loopback(name) and name != "localhost" else name
