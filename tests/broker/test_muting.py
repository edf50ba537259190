"""Muting: who is not read from, and until when. The loop's clock is the test's."""

from collections.abc import Callable
from typing import Any, cast

import pytest

from headwater.broker.shell.muting import WAIT_S_MAX, Muting


class Loop:
    """A loop whose time is moved by hand."""

    def __init__(self) -> None:
        self.now_s = 100.0
        self.calls: list[tuple[float, Callable[..., object], Any]] = []

    def time(self) -> float:
        return self.now_s

    def call_later(self, delay_s: float, callback: Callable[..., object], argument: Any) -> None:
        self.calls.append((self.now_s + delay_s, callback, argument))

    def move(self, seconds: float) -> None:
        self.now_s += seconds
        due = [call for call in self.calls if call[0] <= self.now_s]
        self.calls = [call for call in self.calls if call[0] > self.now_s]
        for _, callback, argument in due:
            callback(argument)


class Client:
    """A connection that only notes its pauses."""

    def __init__(self) -> None:
        self.last_active_s = 0.0
        self.closing = False
        self.pauses: set[str] = set()

    def pause(self, reason: str) -> None:
        self.pauses.add(reason)

    def resume(self, reason: str) -> None:
        self.pauses.discard(reason)


@pytest.fixture
def loop() -> Loop:
    return Loop()


@pytest.fixture
def muting(loop: Loop) -> Muting:
    return Muting(cast(Any, loop))


def test_a_client_is_read_from_again_when_its_time_is_over(loop: Loop, muting: Muting) -> None:
    client = Client()
    muting.mute(client, 5_000)
    loop.move(4.9)
    assert client.pauses == {"quota"}
    loop.move(0.1)
    assert client.pauses == set()
    assert client.last_active_s == loop.now_s
    assert muting.until_s == {}


def test_the_longest_of_several_waits_counts(loop: Loop, muting: Muting) -> None:
    client = Client()
    muting.mute(client, 5_000)
    loop.move(1)
    muting.mute(client, 10_000)
    muting.mute(client, 1_000)
    loop.move(4)
    assert client.pauses == {"quota"}
    loop.move(6)
    assert client.pauses == set()


def test_a_very_long_wait_takes_several_timers(loop: Loop, muting: Muting) -> None:
    client = Client()
    muting.mute(client, 1.5 * WAIT_S_MAX * 1000)
    loop.move(WAIT_S_MAX)
    assert client.pauses == {"quota"}
    loop.move(WAIT_S_MAX / 2)
    assert client.pauses == set()


def test_a_connection_that_is_gone_is_forgotten(loop: Loop, muting: Muting) -> None:
    client = Client()
    muting.mute(client, 5_000)
    muting.forget(client)
    assert muting.until_s == {}
    loop.move(5)
    assert client.pauses == {"quota"}  # nobody touches it


def test_a_connection_that_closes_is_not_muted(muting: Muting) -> None:
    client = Client()
    client.closing = True
    muting.mute(client, 5_000)
    assert (client.pauses, muting.until_s) == (set(), {})
