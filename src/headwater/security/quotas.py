"""Quotas: how much a client may use, who shares one, and how long it has to wait after it has used more (KIP-13, KIP-124, KIP-599).

Entities. A quota is set for users, for client ids, or for both together, each by name or as the default. For a client the
most particular one counts (ClientQuotaManager.java). Here `*` is the default:

    user and client id    (user, id)   (user, *)   (*, id)   (*, *)
    user                  (user)       (*)
    client id             (id)         (*)

All connections to which the same entity applies, with the same user and client id as far as it has them, share one meter. For
example, with a quota for the default user, each user has a meter of its own, whatever its client ids are.

Rates. Bytes and request time are counted in samples of a second, of which the last eleven count (`quota.window.num`,
`quota.window.size.seconds`). A rate is their sum by the time since the oldest of them began, and by ten seconds at least: what
comes after a pause is not taken for a high rate. A client whose rate O is above its quota T has to wait X, which makes the
time W so much longer that the rate is T:

    O * W / (W + X) = T    so    X = W * (O - T) / T

For example, a quota of 1,000 bytes per second, and 15,000 bytes at once: the rate is 15,000 / 10 s = 1,500, and the wait 5 s.
After these 5 s the rate is still taken over ten seconds, so the next request waits again, until the sample is too old. That is
what Kafka does.

Mutations of the cluster are counted by a token bucket: it fills with the quota, up to eleven seconds of it, and each partition that
is created or deleted takes a token. A request is refused, or made to wait, when the bucket is below zero (KIP-599).

Connections are counted by the address from which they come; an address has a quota of its own, or that of all the others (KIP-612).
"""

import math
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from enum import IntEnum, StrEnum
from typing import NamedTuple, TypeAlias

from headwater.protocol.error_codes import ErrorCode
from headwater.protocol.errors import ApiError
from headwater.security.addresses import normalized

USER, CLIENT_ID, IP = "user", "client-id", "ip"
Entity: TypeAlias = tuple[tuple[str, str | None], ...]  # types with names, in the order of the types; None: the default
METERS_MAX = 10_000
INT_MAX, LONG_MAX = 2**31 - 1, 2**63 - 1


class QuotaKey(StrEnum):
    """What a quota limits."""

    PRODUCER_BYTES = "producer_byte_rate"
    CONSUMER_BYTES = "consumer_byte_rate"
    REQUEST_PERCENTAGE = "request_percentage"
    MUTATIONS = "controller_mutation_rate"
    CONNECTIONS = "connection_creation_rate"  # of an IP address; all others are of users and client ids


# The type of those that are whole numbers, and the largest of them.
WHOLE_NUMBERS = {
    QuotaKey.PRODUCER_BYTES: ("a LONG", LONG_MAX),
    QuotaKey.CONSUMER_BYTES: ("a LONG", LONG_MAX),
    QuotaKey.CONNECTIONS: ("an INT", INT_MAX),
}


class Match(IntEnum):
    """How a component of a filter is meant."""

    EXACT = 0
    DEFAULT = 1
    SPECIFIED = 2  # any, the default included


class Component(NamedTuple):
    """A component of a filter: the entities that have this type, with this name."""

    entity_type: str
    match: int
    name: str | None


def entity_from(parts: Iterable[tuple[str, str | None]]) -> Entity:
    """Raises ApiError for what is neither an entity of users and client ids nor one of an IP address."""
    found: dict[str, str | None] = {}
    for entity_type, name in parts:
        if entity_type in found:
            raise invalid(f"Invalid client quota entity, duplicate entity entry {entity_type}")
        if entity_type not in (USER, CLIENT_ID, IP):
            raise invalid(f"Unhandled client quota entity type: {entity_type}")
        if name == "":
            raise invalid(f"Empty {entity_type} not supported")
        found[entity_type] = name
    if not found:
        raise invalid("Invalid empty client quota entity")
    if IP in found:
        check_address(found)
    return tuple(sorted(found.items()))


def check_address(names: Mapping[str, str | None]) -> None:
    """Raises ApiError. Names of hosts, which Kafka looks up, are not accepted."""
    if len(names) > 1:
        raise invalid("Invalid quota entity combination, IP entity shouldnot be combined with User or ClientId")
    address = names[IP]
    if address is not None and normalized_or_none(address) is None:
        raise invalid(f"{address} is not a valid IP or resolvable host.")


def normalized_or_none(address: str) -> str | None:
    try:
        return normalized(address)
    except ValueError:
        return None


def check_value(entity: Entity, key: str, value: float) -> None:
    """Raises ApiError for a quota that cannot be set."""
    is_of_address = entity[0][0] == IP
    if key not in QuotaKey._value2member_map_ or is_of_address is not (key == QuotaKey.CONNECTIONS):
        raise invalid(f"Invalid configuration key {key}")
    if not value > 0:
        raise invalid(f"Quota {key} must be greater than 0")
    if key in WHOLE_NUMBERS:
        kind, largest = WHOLE_NUMBERS[QuotaKey(key)]
        if value > largest:
            raise invalid(f"Proposed value for {key} is too large for {kind}.")
        if value % 1.0 > 1e-6:
            raise invalid(f"{key} cannot be a fractional value.")


def invalid(message: str) -> ApiError:
    return ApiError(ErrorCode.INVALID_REQUEST, message)


class Quotas:
    """The quotas that are set: a part of the metadata."""

    def __init__(self) -> None:
        self.entities: dict[Entity, dict[str, float]] = {}
        self.keys: set[str] = set()  # of requests, for which any entity has a quota
        self.connection_rates: dict[str | None, float] = {}  # by address; None: of addresses that are not there

    def set(self, entity: Entity, key: str, value: float) -> None:
        self.entities.setdefault(entity, {})[key] = value
        self.notice(entity, key, value)

    def notice(self, entity: Entity, key: str, value: float) -> None:
        """Makes a quota easy to find."""
        if key != QuotaKey.CONNECTIONS:
            self.keys.add(key)
            return
        address = entity[0][1]
        name = None if address is None else normalized_or_none(address)
        if address is None or name is not None:  # there may be a host's name, in a log that a Kafka has written
            self.connection_rates[name] = value

    def remove(self, entity: Entity, key: str) -> None:
        values = self.entities.get(entity, {})
        values.pop(key, None)
        if not values:
            self.entities.pop(entity, None)
        self.keys.clear()
        self.connection_rates.clear()
        for other, others in self.entities.items():
            for other_key, value in others.items():
                self.notice(other, other_key, value)

    def changes(self, entity: Entity, wanted: Mapping[str, float | None]) -> Iterator[tuple[str, float | None]]:
        """What has to be changed so that an entity has these values; None removes one. Raises ApiError."""
        now = self.entities.get(entity, {})
        for key, value in wanted.items():
            if value is not None:
                check_value(entity, key, value)
            if value != now.get(key):
                yield key, value

    def find(self, components: list[Component], *, is_strict: bool) -> Iterator[tuple[Entity, dict[str, float]]]:
        """The entities that a filter matches; a strict one, without those that have further types. Raises ApiError."""
        check_filter(components)
        for entity, values in self.entities.items():
            names = dict(entity)
            if is_strict and len(names) != len(components):
                continue
            if all(matches(component, names) for component in components):
                yield entity, values

    def connection_rate_of(self, address: str) -> float | None:
        """How many connections an address may open per second; None if as many as it likes."""
        rates = self.connection_rates
        return rates.get(address, rates.get(None)) if rates else None

    def quota_for(self, key: str, user: str, client_id: str) -> tuple[float, tuple[str, str]] | None:
        """The quota of a client, and what tells its meter from others; None if it may use as much as it likes."""
        both = [((CLIENT_ID, c), (USER, u)) for u in (user, None) for c in (client_id, None)]
        for entity in both:
            if (value := self.entities.get(entity, {}).get(key)) is not None:
                return value, (user, client_id)
        for name in (user, None):
            if (value := self.entities.get(((USER, name),), {}).get(key)) is not None:
                return value, (user, "")
        for name in (client_id, None):
            if (value := self.entities.get(((CLIENT_ID, name),), {}).get(key)) is not None:
                return value, ("", client_id)
        return None


def check_filter(components: list[Component]) -> None:
    """Raises ApiError."""
    seen = set()
    for entity_type, match, name in components:
        if not entity_type:
            raise invalid("Invalid empty entity type.")
        if entity_type in seen:
            raise invalid(f"Entity type {entity_type} cannot appear more than once in the filter.")
        seen.add(entity_type)
        if entity_type not in (USER, CLIENT_ID, IP):
            raise ApiError(ErrorCode.UNSUPPORTED_VERSION, f"Unsupported entity type {entity_type}")
        if match not in Match._value2member_map_:
            raise invalid(f"Unknown match type {match}")
        if match == Match.EXACT and name is None:
            raise invalid("Request specified MATCH_TYPE_EXACT, but set match string to null.")
        if match != Match.EXACT and name is not None:
            raise invalid(f"Request specified MATCH_TYPE_{Match(match).name}, but also specified a match string.")
    if IP in seen and len(seen) > 1:
        raise invalid(
            "Invalid entity filter component combination. IP filter component should not be used with user or clientId "
            "filter component."
        )


def matches(component: Component, names: Mapping[str, str | None]) -> bool:
    if component.entity_type not in names:
        return False
    return component.match == Match.SPECIFIED or names[component.entity_type] == component.name


class Rate:
    """How much was used per second, over the last samples (Rate.java, SampledStat.java)."""

    def __init__(self, samples_max: int, sample_ms: float, now_ms: float) -> None:
        self.samples_max, self.sample_ms = samples_max, sample_ms
        self.samples: deque[list[float]] = deque([[now_ms, 0.0]])  # when each began, and what was used in it

    def record(self, amount: float, now_ms: float) -> None:
        if now_ms - self.samples[-1][0] >= self.sample_ms:
            self.samples.append([now_ms, 0.0])
            if len(self.samples) > self.samples_max:
                self.samples.popleft()
        self.samples[-1][1] += amount

    def window_ms(self, now_ms: float) -> float:
        """The time that the samples cover. Forgets those that are too old."""
        oldest_ms = now_ms - self.samples_max * self.sample_ms
        while len(self.samples) > 1 and self.samples[0][0] <= oldest_ms:
            self.samples.popleft()
        if self.samples[0][0] <= oldest_ms:
            self.samples[0] = [now_ms, 0.0]
        elapsed_ms = now_ms - self.samples[0][0]
        missing = self.samples_max - 1 - math.floor(elapsed_ms / self.sample_ms)
        return elapsed_ms + max(0, missing) * self.sample_ms

    def wait_ms(self, quota: float, now_ms: float) -> float:
        """How long it takes until the rate is the quota, if nothing more is used; 0 where it is not above it."""
        window_ms = max(self.sample_ms, self.window_ms(now_ms))
        rate = sum(amount for _, amount in self.samples) / window_ms * 1000
        return max(0.0, (rate - quota) / quota * window_ms)


class TokenBucket:
    """Tokens that come back at the rate of a quota (TokenBucket.java)."""

    def __init__(self, burst_s: float, now_ms: float) -> None:
        self.burst_s = burst_s
        self.tokens = math.inf  # it begins full
        self.refilled_ms = now_ms

    def refill(self, quota: float, now_ms: float) -> None:
        tokens = self.tokens + quota * (now_ms - self.refilled_ms) / 1000
        self.tokens, self.refilled_ms = min(self.burst_s * quota, tokens), now_ms

    def take(self, amount: float, quota: float, now_ms: float) -> None:
        self.refill(quota, now_ms)
        self.tokens -= amount

    def wait_ms(self, quota: float, now_ms: float) -> float:
        """How long it takes until no token is owed; 0 where none is."""
        self.refill(quota, now_ms)
        return max(0.0, -self.tokens / quota * 1000)
