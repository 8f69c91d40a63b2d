"""The open connections of a port, counted in all and per address; and the names of clients in such limits."""

from __future__ import annotations

import ipaddress
from collections import Counter
from collections.abc import Mapping
from typing import Any, Final

_IPV6_PREFIX: Final = 64


class ConnectionTable:
    """Counts open connections; used from the event loop only.

    Args:
        most: Most connections in all.
        most_per_address: Most connections of one IPv4 address or IPv6 /64 network.
    """

    def __init__(self, most: int, most_per_address: int) -> None:
        self._most, self._most_per_address = most, most_per_address
        self._counts: Counter[str] = Counter()
        self._total = 0

    @property
    def total(self) -> int:
        """Open connections."""
        return self._total

    def add(self, address: str) -> bool:
        """Count a connection of an address as `address_group` names it; False, and nothing counted, if it is one too many."""
        if self._total >= self._most or self._counts[address] >= self._most_per_address:
            return False
        self._total += 1
        self._counts[address] += 1
        return True

    def remove(self, address: str) -> None:
        """Count a connection of an address no longer."""
        self._total -= 1
        self._counts[address] -= 1
        if self._counts[address] <= 0:
            del self._counts[address]


def address_group(host: str | None) -> str:
    """The addresses that count as one client: an IPv4 address, an IPv6 /64 network, which is what one customer has, or `local`."""
    try:
        address = ipaddress.ip_address((host or "").partition("%")[0])
    except ValueError:
        return "local"
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is None:
            return str(ipaddress.ip_network((address, _IPV6_PREFIX), strict=False))
        address = address.ipv4_mapped
    return str(address)


def client_name(scope: Mapping[str, Any]) -> str:
    """The client of a request in limits per client: its API key or, where no key is needed, its address."""
    key = scope.get("alterbute.key")
    if key is not None:
        return f"key {key}"
    client = scope.get("client")
    return f"address {address_group(client[0] if client else None)}"
