"""The clocks."""

import time

import pytest

from headwater.effects.clock import ManualClock, MovableClock, SystemClock, seconds_of


def test_seconds_are_those_of_the_clock() -> None:
    clock = ManualClock()
    now_s = seconds_of(clock)
    clock.advance(1500)
    assert now_s() == 1.5


@pytest.mark.parametrize("clock", [SystemClock(), MovableClock()])
def test_seconds_of_the_machine_are_on_the_same_scale_as_its_milliseconds(clock: SystemClock | MovableClock) -> None:
    before_ms = clock.steady_ms()
    now_s = seconds_of(clock)()
    assert before_ms <= 1000 * now_s + 1e-3
    assert 1000 * now_s <= clock.steady_ms() + 1e-3


def test_the_machines_clock_costs_a_bare_call() -> None:
    assert seconds_of(SystemClock()) is time.monotonic
