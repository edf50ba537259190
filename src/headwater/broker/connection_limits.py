"""How many connections are allowed: in all, per listener, per address, and how many of strangers.

A *stranger* is a connection whose client is not known yet. If clients authenticate, it is one that has not done so;
otherwise it is one that has not sent a request yet. Strangers get at most half of all places, so they cannot shut out the
others. When no place is left, the oldest stranger is closed for the newcomer, so thousands of idle strangers cannot keep
anyone from logging in either. A stranger younger than `GRACE_S` stays, because it may be about to log in. If there is no
older stranger, a client is closed that does not read its answers or has long been idle. If there is none either, the
newcomer is refused.
The limits: the process's open files (`descriptors.py`), `max.connections`, `listener.name.NAME.max.connections`,
"""

from collections import Counter
from collections.abc import Callable
from typing import Generic, NamedTuple, Protocol, TypeVar

from headwater.broker.configs.address_limits import read_overrides
from headwater.broker.configs.settings import Settings, split_listener_key

GRACE_S = 0.1
STRANGERS_MIN = 16  # if there are few places, strangers may have all


class Place(Protocol):
    """A connection, as the limits see it."""

    address: str
    listener_name: str
    accepted_s: float


AnyPlace = TypeVar("AnyPlace", bound=Place)


class RefusedError(Exception):
    """A connection is refused. The message names the limit."""


class Limits(NamedTuple):
    """The numbers that follow from settings."""

    total: int
    strangers: int
    total_name: str
    per_address: int
    overrides: dict[str, int]
    per_listener: dict[str, int]

    @classmethod
    def of(cls, settings: Settings, descriptors: int) -> "Limits":
        total = min(settings.max_connections, descriptors)
        name = "max.connections" if total == settings.max_connections else "the process's limit of open files"
        return cls(
            total,
            max(total // 2, min(total, STRANGERS_MIN)),
            name,
            settings.max_connections_per_ip,
            read_overrides(settings.max_connections_per_ip_overrides),
            read_listener_limits(settings),
        )


def read_listener_limits(settings: Settings) -> dict[str, int]:
    """`listener.name.NAME.max.connections`, by the listener's name."""
    keys = {key: split_listener_key(key) for key in settings.given}
    return {
        listener.upper(): int(settings.given[key])
        for key, (listener, own) in keys.items()
        if listener and own == "max.connections"
    }


class ConnectionLimits(Generic[AnyPlace]):
    """The connections that have a place."""

    def __init__(
        self,
        settings: Callable[[], Settings],
        descriptors: int,
        find_dispensable: Callable[[float], AnyPlace | None] = lambda now_s: None,
    ) -> None:
        self.settings = settings
        self.descriptors = descriptors
        self.find_dispensable = find_dispensable  # finds one that is not a stranger
        self.seen: Settings | None = None
        self.current = Limits(0, 0, "", 0, {}, {})
        self.places: set[AnyPlace] = set()
        self.strangers: dict[AnyPlace, None] = {}  # the oldest first
        self.by_address: Counter[str] = Counter()
        self.by_listener: Counter[str] = Counter()

    @property
    def limits(self) -> Limits:
        settings = self.settings()
        if settings is not self.seen:
            self.current = Limits.of(settings, self.descriptors)
            self.seen = settings
        return self.current

    def admit(self, newcomer: AnyPlace) -> AnyPlace | None:
        """Gives a newcomer, a stranger, a place. Returns the connection that lost its place for it, and must be closed.

        Raises RefusedError if no connection can be closed for it.
        """
        limits = self.limits
        allowed = limits.overrides.get(newcomer.address, limits.per_address)
        if self.by_address[newcomer.address] >= allowed:
            raise RefusedError(f"{allowed} connections from {newcomer.address} are open (max.connections.per.ip)")
        leaving = self.leaving_for(newcomer, limits)
        self.places.add(newcomer)
        self.strangers[newcomer] = None
        self.by_address[newcomer.address] += 1
        self.by_listener[newcomer.listener_name] += 1
        if leaving is not None:
            self.leave(leaving)
        return leaving

    def leaving_for(self, newcomer: AnyPlace, limits: Limits) -> AnyPlace | None:
        of_listener = limits.per_listener.get(newcomer.listener_name)
        is_full = of_listener is not None and self.by_listener[newcomer.listener_name] >= of_listener
        candidates = (s for s in self.strangers if not is_full or s.listener_name == newcomer.listener_name)
        if not is_full and len(self.places) < limits.total and len(self.strangers) < limits.strangers:
            return None
        oldest = next(candidates, None)
        if oldest is not None and newcomer.accepted_s - oldest.accepted_s >= GRACE_S:
            return oldest
        dispensable = None if is_full else self.find_dispensable(newcomer.accepted_s)
        if dispensable is not None:
            return dispensable
        name = f"listener.name.{newcomer.listener_name.lower()}.max.connections" if is_full else limits.total_name
        count = self.by_listener[newcomer.listener_name] if is_full else len(self.places)
        raise RefusedError(f"{count} connections are open, {len(self.strangers)} of them strangers ({name})")

    def recognize(self, place: AnyPlace) -> None:
        """A client is recognized: its connection is no longer a stranger."""
        self.strangers.pop(place, None)

    def leave(self, place: AnyPlace) -> None:
        """The connection is closed. Does nothing if it has no place."""
        if place not in self.places:
            return
        self.places.discard(place)
        self.strangers.pop(place, None)
        for counter, key in ((self.by_address, place.address), (self.by_listener, place.listener_name)):
            counter[key] -= 1
            if not counter[key]:
                del counter[key]
