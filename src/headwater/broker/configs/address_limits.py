"""Addresses of clients, and how many connections each may have (`max.connections.per.ip.overrides`)."""

from headwater.broker.configs.catalog import WHOLE_NUMBER, ConfigError, shorten
from headwater.security.addresses import normalized

OVERRIDES = "max.connections.per.ip.overrides"


def read_overrides(text: str) -> dict[str, int]:
    """Parses `address:count,…`. Raises ConfigError."""
    found = {}
    for part in (part.strip() for part in text.split(",")):
        if not part:
            continue
        address, _, count = part.rpartition(":")
        try:
            if WHOLE_NUMBER.fullmatch(count.strip()) is None or int(count) < 0:
                raise ValueError("no count")
            found[normalized(address.strip().strip("[]"))] = int(count)
        except ValueError:
            raise ConfigError(
                f"{OVERRIDES}: {shorten(part)} is not of the form ADDRESS:COUNT, with an IP address"
            ) from None
    return found
