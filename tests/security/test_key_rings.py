"""When the keys of a provider are fetched, and what a login does meanwhile."""

import itertools
import logging

import pytest

from headwater.effects.clock import ManualClock
from headwater.effects.timers import Timers
from headwater.security.access_tokens import TokenError, TokenRules, UnknownKeyError
from headwater.security.key_rings import EXPEDITED_MS, Fetched, KeyRing, Schedule, TokenChecker
from headwater.security.key_sets import KeySetError, read_key_set
from headwater.security.sasl import NotYetError
from tests.tokens import AUDIENCE, ISSUER, key_set, public_entry, token

FIRST = read_key_set(key_set(public_entry("key-1")))
BOTH = read_key_set(key_set(public_entry("key-1"), public_entry("key-2")))
URL = "https://idp.example.org/keys"


class Provider:
    """A ring, and a provider that answers when the test says so."""

    def __init__(self, schedule: Schedule | None = None) -> None:
        self.clock = ManualClock()
        self.timers = Timers(self.clock)
        self.asked: list[Fetched] = []
        self.ring = KeyRing(URL, schedule or Schedule(), self.timers, lambda url, done: self.asked.append(done))

    def advance(self, milliseconds: float) -> None:
        self.clock.advance(milliseconds)
        self.timers.run_due()

    def checker(self) -> TokenChecker:
        return TokenChecker(TokenRules(ISSUER, (AUDIENCE,)), self.ring, self.clock)

    def token(self, name: str) -> str:
        return token(name, now_s=self.clock.wall_ms() / 1000)


def test_keys_are_fetched_again_after_a_while() -> None:
    provider = Provider(Schedule(refresh_ms=60_000))
    provider.ring.refresh()
    provider.ring.refresh()  # under way already
    assert len(provider.asked) == 1
    provider.asked.pop()(FIRST)
    provider.advance(59_999)
    assert provider.asked == []
    provider.advance(1)
    provider.asked.pop()(BOTH)
    assert provider.ring.keys is BOTH


def test_a_provider_that_is_down_keeps_its_last_keys_and_is_named(caplog: pytest.LogCaptureFixture) -> None:
    provider = Provider(Schedule(60_000, backoff_ms=100, backoff_max_ms=1000))
    provider.ring.refresh()
    provider.asked.pop()(FIRST)
    provider.advance(60_000)
    waits = []
    for _ in range(6):
        provider.asked.pop()(KeySetError("Connection refused"))
        waits.append(provider.timers.next_deadline_ms() or 0)
        provider.advance(waits[-1] - provider.clock.steady_ms())
    assert [round(b - a) for a, b in itertools.pairwise(waits)] == [200, 400, 800, 1000, 1000]
    assert provider.ring.keys is FIRST
    lines = [record.getMessage() for record in caplog.records]
    assert lines == [f"{URL}: the key set cannot be read: Connection refused; the last ones stay in use"] * 3
    caplog.clear()
    with caplog.at_level(logging.INFO):
        provider.asked.pop()(BOTH)
    assert "there again" in caplog.text
    assert provider.ring.failures == 0


def test_a_new_key_is_waited_for() -> None:
    provider = Provider()
    provider.ring.refresh()
    provider.asked.pop()(FIRST)
    provider.advance(EXPEDITED_MS)
    checker = provider.checker()
    with pytest.raises(NotYetError) as not_yet:
        checker.check(provider.token("key-2"))
    called: list[int] = []
    not_yet.value.when_ready(lambda: called.append(1))
    assert called == []
    assert len(provider.asked) == 1
    provider.asked.pop()(BOTH)
    assert called == [1]
    assert checker.check(provider.token("key-2")).name == "alice"


def test_a_key_that_does_not_exist_is_asked_for_once_in_a_while() -> None:
    provider = Provider()
    provider.ring.refresh()
    provider.asked.pop()(FIRST)
    with pytest.raises(UnknownKeyError):  # the keys are new
        provider.checker().check(provider.token("key-2"))
    provider.advance(EXPEDITED_MS)
    first, second = provider.checker(), provider.checker()
    for checker in (first, second):
        with pytest.raises(NotYetError) as not_yet:
            checker.check(provider.token("key-2"))
        not_yet.value.when_ready(lambda: None)
    assert len(provider.asked) == 1
    provider.asked.pop()(FIRST)
    assert provider.ring.waiting == []
    for checker in (first, second, provider.checker()):
        with pytest.raises(UnknownKeyError):
            checker.check(provider.token("key-2"))
    assert provider.asked == []
    assert provider.checker().check(provider.token("key-1")).name == "alice"


def test_before_the_first_keys_logins_wait_and_then_fail() -> None:
    provider = Provider(Schedule(backoff_ms=60_000, backoff_max_ms=60_000))
    provider.ring.refresh()
    checker = provider.checker()
    with pytest.raises(NotYetError):
        checker.check(provider.token("key-1"))
    provider.asked.pop()(KeySetError("Connection refused"))
    with pytest.raises(UnknownKeyError, match="no keys from https://idp"):
        checker.check(provider.token("key-1"))
    with pytest.raises(UnknownKeyError):
        provider.checker().check(provider.token("key-1"))
    assert provider.asked == []
    provider.advance(60_000)
    provider.asked.pop()(FIRST)
    assert provider.checker().check(provider.token("key-1")).name == "alice"


def test_a_fetch_that_is_done_at_once_needs_no_waiting() -> None:
    """As it is without a shell, for a file."""
    clock = ManualClock()
    ring = KeyRing(URL, Schedule(), Timers(clock), lambda url, done: done(BOTH))
    checker = TokenChecker(TokenRules(ISSUER, (AUDIENCE,)), ring, clock)
    assert checker.check(token("key-2", now_s=clock.wall_ms() / 1000)).name == "alice"


def test_a_name_may_be_nobodys() -> None:
    provider = Provider()
    provider.ring.keys = BOTH
    checker = TokenChecker(TokenRules(ISSUER, (AUDIENCE,)), provider.ring, provider.clock, "alice")
    with pytest.raises(TokenError, match="has no tokens"):
        checker.check(provider.token("key-1"))


def test_keys_that_are_not_used_are_named_once(caplog: pytest.LogCaptureFixture) -> None:
    provider = Provider(Schedule(refresh_ms=1000))
    partly = read_key_set(key_set(public_entry("key-1"), {"kty": "oct", "k": "AAAA"}))
    provider.ring.refresh()
    for _ in range(3):
        provider.asked.pop()(partly)
        provider.advance(1000)
    assert [record.getMessage() for record in caplog.records] == [
        f"{URL}: keys that are not used: key 2: it is not an RSA key, nor one on P-256, P-384, P-521 or Ed25519"
    ]
