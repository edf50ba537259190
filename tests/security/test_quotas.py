"""Quotas: which one a client has, who shares its meter, and how long the wait is. The figures are those of Kafka's own meters."""

from itertools import combinations

import pytest

from headwater.protocol.errors import ApiError
from headwater.security.quotas import (
    CLIENT_ID,
    IP,
    USER,
    Component,
    Entity,
    Match,
    QuotaKey,
    Quotas,
    Rate,
    TokenBucket,
    check_value,
    entity_from,
)

KEY = QuotaKey.PRODUCER_BYTES


def entity(user: str | None = "", client_id: str | None = "") -> Entity:
    """None is the default; without a name the type is not there."""
    return tuple((kind, name) for kind, name in ((CLIENT_ID, client_id), (USER, user)) if name != "")


# From the most particular to the most general, each with what tells alice's meter, with the client id `app`.
LEVELS = [
    (entity("alice", "app"), ("alice", "app")),
    (entity("alice", None), ("alice", "app")),
    (entity(None, "app"), ("alice", "app")),
    (entity(None, None), ("alice", "app")),
    (entity("alice"), ("alice", "")),
    (entity(None), ("alice", "")),
    (entity(client_id="app"), ("", "app")),
    (entity(client_id=None), ("", "app")),
]


@pytest.mark.parametrize("count", range(len(LEVELS) + 1))
def test_the_most_particular_quota_counts(count: int) -> None:
    for levels in combinations(range(len(LEVELS)), count):
        quotas = Quotas()
        for level in levels:
            quotas.set(LEVELS[level][0], KEY, level + 1)
        found = quotas.quota_for(KEY, "alice", "app")
        assert found == ((levels[0] + 1, LEVELS[levels[0]][1]) if levels else None)


def test_others_and_other_keys_are_not_limited() -> None:
    quotas = Quotas()
    quotas.set(entity("alice", "app"), KEY, 1)
    assert quotas.quota_for(KEY, "alice", "other") is None
    assert quotas.quota_for(KEY, "bob", "app") is None
    assert quotas.quota_for(QuotaKey.CONSUMER_BYTES, "alice", "app") is None


def test_what_is_removed_is_gone() -> None:
    quotas = Quotas()
    quotas.set(entity("alice"), KEY, 1)
    quotas.set(entity("alice"), QuotaKey.MUTATIONS, 2)
    quotas.remove(entity("alice"), KEY)
    assert quotas.entities == {entity("alice"): {QuotaKey.MUTATIONS: 2}}
    assert quotas.keys == {QuotaKey.MUTATIONS}
    quotas.remove(entity("alice"), QuotaKey.MUTATIONS)
    assert (quotas.entities, quotas.keys) == ({}, set())


def test_only_what_changes_is_changed() -> None:
    quotas = Quotas()
    quotas.set(entity("alice"), KEY, 1)
    wanted: dict[str, float | None] = {KEY: 1, QuotaKey.CONSUMER_BYTES: 5, QuotaKey.MUTATIONS: None}
    assert list(quotas.changes(entity("alice"), wanted)) == [(QuotaKey.CONSUMER_BYTES, 5)]


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        ("speed", 1, "Invalid configuration key speed"),
        (KEY, 0, "must be greater than 0"),
        (KEY, -1, "must be greater than 0"),
        (KEY, float("nan"), "must be greater than 0"),
        (KEY, 1.5, "cannot be a fractional value"),
        (KEY, 1e30, "too large for a LONG"),
        (QuotaKey.CONNECTIONS, 1, "Invalid configuration key connection_creation_rate"),
    ],
)
def test_values_that_cannot_be(key: str, value: float, reason: str) -> None:
    with pytest.raises(ApiError, match=reason):
        check_value(entity("alice"), key, value)


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        (KEY, 1, "Invalid configuration key producer_byte_rate"),
        (QuotaKey.CONNECTIONS, 0, "must be greater than 0"),
        (QuotaKey.CONNECTIONS, 1.5, "cannot be a fractional value"),
        (QuotaKey.CONNECTIONS, 2**31, "too large for an INT"),
    ],
)
def test_values_that_an_address_cannot_have(key: str, value: float, reason: str) -> None:
    with pytest.raises(ApiError, match=reason):
        check_value(((IP, "10.0.0.1"),), key, value)


def test_addresses_are_found_however_they_are_written() -> None:
    quotas = Quotas()
    assert quotas.connection_rate_of("::1") is None
    quotas.set(((IP, "0:0:0:0:0:0:0:1"),), QuotaKey.CONNECTIONS, 5)
    assert (quotas.connection_rate_of("::1"), quotas.connection_rate_of("::2")) == (5, None)
    quotas.set(((IP, None),), QuotaKey.CONNECTIONS, 7)
    assert (quotas.connection_rate_of("::1"), quotas.connection_rate_of("::2")) == (5, 7)
    assert quotas.keys == set()
    quotas.set(((IP, "localhost"),), QuotaKey.CONNECTIONS, 9)  # a Kafka's log may have it
    assert quotas.connection_rates == {"::1": 5, None: 7}
    quotas.remove(((IP, "0:0:0:0:0:0:0:1"),), QuotaKey.CONNECTIONS)
    assert quotas.connection_rate_of("::1") == 7


@pytest.mark.parametrize(
    ("parts", "reason"),
    [
        ([], "empty client quota entity"),
        ([(USER, "a"), (USER, "b")], "duplicate entity entry user"),
        ([("group", "a")], "Unhandled client quota entity type: group"),
        ([(USER, "")], "Empty user"),
        ([(IP, "")], "Empty ip"),
        ([(IP, "localhost")], "localhost is not a valid IP or resolvable host"),
        ([(IP, "127.0.0.1"), (USER, "a")], "IP entity shouldnot be combined with User or ClientId"),
    ],
)
def test_entities_that_cannot_be(parts: list[tuple[str, str | None]], reason: str) -> None:
    with pytest.raises(ApiError, match=reason):
        entity_from(parts)


def test_an_entity_is_the_same_in_any_order() -> None:
    assert entity_from([(USER, "a"), (CLIENT_ID, None)]) == entity_from([(CLIENT_ID, None), (USER, "a")])
    assert entity_from([(IP, "127.0.0.1")]) == ((IP, "127.0.0.1"),)
    assert entity_from([(IP, None)]) == ((IP, None),)


@pytest.mark.parametrize(
    ("components", "is_strict", "found"),
    [
        ([], False, [0, 1, 2, 3]),
        ([], True, []),
        ([Component(USER, Match.SPECIFIED, None)], False, [0, 1, 2]),
        ([Component(USER, Match.SPECIFIED, None)], True, [0, 1]),
        ([Component(USER, Match.EXACT, "alice")], False, [0, 2]),
        ([Component(USER, Match.DEFAULT, None)], True, [1]),
        ([Component(USER, Match.EXACT, "alice"), Component(CLIENT_ID, Match.SPECIFIED, None)], True, [2]),
        ([Component(CLIENT_ID, Match.DEFAULT, None)], True, [3]),
        ([Component(IP, Match.SPECIFIED, None)], False, []),
    ],
)
def test_filters(components: list[Component], is_strict: bool, found: list[int]) -> None:
    entities = [entity("alice"), entity(None), entity("alice", "app"), entity(client_id=None)]
    quotas = Quotas()
    for each in entities:
        quotas.set(each, KEY, 1)
    assert [each for each, _ in quotas.find(components, is_strict=is_strict)] == [entities[n] for n in found]


@pytest.mark.parametrize(
    ("components", "reason"),
    [
        ([Component("", Match.EXACT, "a")], "empty entity type"),
        ([Component(USER, Match.EXACT, "a"), Component(USER, Match.DEFAULT, None)], "more than once"),
        ([Component("group", Match.EXACT, "a")], "Unsupported entity type group"),
        ([Component(USER, Match.EXACT, None)], "MATCH_TYPE_EXACT"),
        ([Component(USER, Match.DEFAULT, "a")], "MATCH_TYPE_DEFAULT"),
        ([Component(USER, Match.SPECIFIED, "a")], "MATCH_TYPE_SPECIFIED"),
        ([Component(USER, 7, None)], "Unknown match type 7"),
        ([Component(USER, Match.DEFAULT, None), Component(IP, Match.DEFAULT, None)], "IP filter component"),
    ],
)
def test_filters_that_cannot_be(components: list[Component], reason: str) -> None:
    with pytest.raises(ApiError, match=reason):
        list(Quotas().find(components, is_strict=False))


def test_a_rate_is_counted_over_ten_seconds_at_least() -> None:
    rate = Rate(11, 1000, 0)
    rate.record(15_000, 0)
    assert rate.wait_ms(1_000, 0) == 5_000
    assert rate.wait_ms(1_500, 0) == 0


def test_after_the_wait_the_rate_is_the_quota() -> None:
    rate = Rate(11, 1000, 0)
    for second in range(5):
        rate.record(5_000, second * 1000)
    now_ms = 4_000
    wait_ms = rate.wait_ms(1_000, now_ms)
    assert wait_ms == 15_000
    assert rate.wait_ms(1_000, now_ms + wait_ms) == 0


def test_what_is_older_than_the_samples_is_forgotten() -> None:
    rate = Rate(11, 1000, 0)
    rate.record(1_000_000, 0)
    assert rate.wait_ms(1, 10_999) > 0
    assert rate.wait_ms(1, 11_000) == 0


def test_samples_are_bounded() -> None:
    rate = Rate(11, 1000, 0)
    for now_ms in range(0, 100_000, 500):
        rate.record(1, now_ms)
    assert len(rate.samples) == 11


def test_a_bucket_begins_full_and_fills_with_the_quota() -> None:
    bucket = TokenBucket(11, 0)
    bucket.take(25, 2, 0)
    assert bucket.wait_ms(2, 0) == 1_500
    assert bucket.wait_ms(2, 1_500) == 0
    bucket.take(0, 2, 1_000_000)
    assert bucket.tokens == 22
