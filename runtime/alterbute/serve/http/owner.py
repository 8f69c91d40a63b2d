"""Who a request is from, so that no client takes what all share."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from starlette.requests import Request

_NETWORK_BITS: Final = 64  # of an IPv6 address; a client usually has the rest to itself (RFC 6177)


def find_owner(request: Request) -> str:
    """The name of a request's API key; without keys, the address that it came from, of IPv6 its network."""
    if "alterbute.key" in request.scope:
        return f"key {request.state.key}"
    host = request.client.host if request.client is not None else ""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:  # a socket without addresses
        return f"address {host}"
    if address.version == 4 or address.ipv4_mapped is not None:
        return f"address {host}"
    return f"network {ipaddress.ip_network((int(address) >> _NETWORK_BITS << _NETWORK_BITS, _NETWORK_BITS))}"
