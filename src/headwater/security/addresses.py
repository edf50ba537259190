"""Addresses of clients, written in one way."""

import ipaddress
from functools import lru_cache


@lru_cache(maxsize=1024)
def normalized(address: str) -> str:
    """The canonical form of an address; IPv4 addresses mapped into IPv6 become IPv4. Raises ValueError."""
    parsed = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(parsed, ipaddress.IPv6Address) and parsed.ipv4_mapped is not None:
        parsed = parsed.ipv4_mapped
    return str(parsed)
