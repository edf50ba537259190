"""Timers: each is called, whatever another raises."""

from functools import partial

import pytest

from headwater.effects.clock import ManualClock
from headwater.effects.timers import Timers


def test_a_timer_that_raises_drops_no_other() -> None:
    clock = ManualClock()
    timers = Timers(clock)
    called: list[int] = []

    def fail() -> None:
        raise ValueError("broken")

    for n in range(3):
        timers.call_later(n, partial(called.append, n))
        timers.call_later(n, fail)
    timers.call_later(10, lambda: called.append(10))
    clock.advance(5)
    with pytest.raises(ExceptionGroup) as caught:
        timers.run_due()
    assert len(caught.value.exceptions) == 3
    assert called == [0, 1, 2]
    clock.advance(5)
    timers.run_due()
    assert called == [0, 1, 2, 10]
