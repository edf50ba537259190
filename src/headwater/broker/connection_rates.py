"""How fast connections may be opened: by all clients, at one listener, and from one address (KIP-612).

The rates of all clients (`max.connection.creation.rate`) and of a listener (`listener.name.NAME.max.connection.creation.rate`)
protect the broker: it accepts fewer connections, and the others wait in the system's queue. The rate of an address
(`connection_creation_rate`, a quota) protects the clients at other addresses: what exceeds it is closed, after a while in which
its client waits for an answer, and does not try again. Such a connection does not count, for no rate.

For example, an address may open 10 connections per second, and opens 101 at once. Rates are taken over ten seconds (`quotas` says
how), so a hundred of them are served. With the last one the rate is 10.1: it is closed after (10.1 - 10) / 10 * 10 s = 100 ms.

A wait is a second at most (`quota.window.size.seconds`). The planes' private listener has no limit. If no rate is limited, nothing is
measured. For addresses there are so many meters at most (`METERS_MAX`); the one that was not used for the longest time goes.
"""

from collections import OrderedDict
from collections.abc import Callable
from typing import Protocol

from headwater.broker.configs.catalog import INT_MAX
from headwater.broker.configs.settings import split_listener_key
from headwater.security.quotas import METERS_MAX, Quotas, Rate

RATE = "max.connection.creation.rate"


class RateSettings(Protocol):
    """What is set for all connections."""

    max_connection_creation_rate: int
    quota_window_num: int
    quota_window_size_seconds: int
    given: dict[str, str]


class ConnectionRates:
    """The meters of connections, and what follows from them. `settings` answers with those in force now."""

    def __init__(self, quotas: Quotas, settings: Callable[[], RateSettings], steady_ms: Callable[[], float]) -> None:
        self.quotas, self.settings, self.steady_ms = quotas, settings, steady_ms
        self.seen: RateSettings | None = None
        self.limits: dict[str, int] = {}
        self.general: dict[str, Rate] = {}  # of all listeners, by "", and of each of them
        self.by_address: OrderedDict[str, Rate] = OrderedDict()  # the one that was used last comes last

    def limits_of(self, listener: str) -> list[tuple[str, int]]:
        """The rates that hold for the connections of a listener, by the names of their meters."""
        settings = self.settings()
        if settings is not self.seen:
            self.seen, self.limits = settings, read_limits(settings)
        return [(name, self.limits[name]) for name in ("", listener) if name in self.limits]

    def wait_ms(self, listener: str) -> float:
        """Records that a listener has accepted a connection. Returns how long it waits before it serves it, and accepts others."""
        waits_ms = [0.0]
        for name, limit in self.limits_of(listener):
            rate = self.general.get(name)
            if rate is None:
                rate = self.general[name] = self.new_rate()
            waits_ms.append(self.record(rate, limit))
        return max(waits_ms)

    def penalty_ms(self, listener: str, address: str) -> float:
        """Records a connection from an address. Returns after how long it is closed; 0 if it may be served."""
        limit = self.quotas.connection_rate_of(address)
        if limit is None:
            return 0.0
        rate = self.by_address.get(address)
        if rate is None:
            if len(self.by_address) >= METERS_MAX:
                self.by_address.popitem(last=False)
            rate = self.by_address[address] = self.new_rate()
        self.by_address.move_to_end(address)
        penalty_ms = self.record(rate, limit)
        if penalty_ms:
            for counted in (
                rate,
                *(self.general[name] for name, _ in self.limits_of(listener) if name in self.general),
            ):
                counted.record(-1, self.steady_ms())
        return penalty_ms

    def new_rate(self) -> Rate:
        settings = self.settings()
        return Rate(settings.quota_window_num, settings.quota_window_size_seconds * 1000, self.steady_ms())

    def record(self, rate: Rate, limit: float) -> float:
        """Counts a connection. Returns the wait that makes the rate what is allowed, in whole ms; 0 if it is not above that."""
        now_ms = self.steady_ms()
        rate.record(1, now_ms)
        longest_ms = self.settings().quota_window_size_seconds * 1000
        return float(int(min(rate.wait_ms(limit, now_ms) + 0.5, longest_ms)))


def read_limits(settings: RateSettings) -> dict[str, int]:
    """The rates that are limited: of all connections by "", of a listener by its name."""
    found = {"": settings.max_connection_creation_rate}
    for key, value in settings.given.items():
        listener, own = split_listener_key(key)
        if listener and own == RATE:
            found[listener.upper()] = int(value)
    return {name: limit for name, limit in found.items() if limit < INT_MAX}
