"""Timers: each is called, whatever another raises."""

from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.effects.clock import ManualClock
from headwater.effects.timers import CANCELLED_MAX, RestartableTimer, Timer, Timers


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


@given(st.lists(st.tuples(st.sampled_from(["later", "later", "cancel", "advance"]), st.integers(0, 20)), max_size=60))
def test_any_use_agrees_with_a_sorted_list(script: list[tuple[str, int]]) -> None:
    clock = ManualClock()
    timers = Timers(clock)
    made: list[Timer] = []
    waiting: dict[int, float] = {}  # number of the timer to its deadline
    called: list[int] = []
    for what, number in script:
        if what == "later":
            serial = len(made)
            waiting[serial] = clock.steady_ms() + number
            made.append(timers.call_later(number, partial(called.append, serial)))
        elif what == "cancel" and made:
            made[number % len(made)].cancel()
            waiting.pop(number % len(made), None)
        elif what == "advance":
            clock.advance(number)
            due = sorted((deadline, n) for n, deadline in waiting.items() if deadline <= clock.steady_ms())
            called.clear()
            timers.run_due()
            assert called == [n for _, n in due]
            for _, n in due:
                del waiting[n]
        assert timers.next_deadline_ms() == min(waiting.values(), default=None)


def test_what_is_cancelled_takes_no_room_for_long() -> None:
    timers = Timers(ManualClock())
    kept = timers.call_later(1, lambda: None)
    for _ in range(10 * CANCELLED_MAX):
        timers.call_later(2, lambda: None).cancel()
    assert len(timers.heap) <= 2 * CANCELLED_MAX
    assert timers.next_deadline_ms() == kept.deadline_ms


@given(
    st.lists(st.tuples(st.sampled_from(["restart", "restart", "cancel", "advance"]), st.integers(0, 20)), max_size=60)
)
def test_a_restartable_timer_calls_at_its_last_deadline(script: list[tuple[str, int]]) -> None:
    clock = ManualClock()
    timers = Timers(clock)
    called: list[float] = []
    timer = RestartableTimer(timers, lambda: called.append(clock.steady_ms()))
    deadline_ms: float | None = None
    for what, number in script:
        if what == "restart":
            timer.restart(number)
            deadline_ms = clock.steady_ms() + number
        elif what == "cancel":
            timer.cancel()
            deadline_ms = None
        else:
            for _ in range(number):
                clock.advance(1)
                called.clear()
                timers.run_due()
                is_due = deadline_ms is not None and deadline_ms <= clock.steady_ms()
                assert bool(called) == is_due
                if is_due:
                    deadline_ms = None
        assert len(timers.heap) <= len(script) + 1


def test_restarting_a_timer_makes_no_other() -> None:
    timers = Timers(ManualClock())
    timer = RestartableTimer(timers, lambda: None)
    for _ in range(100):
        timer.restart(10)
    assert len(timers.heap) == 1
    timer.restart(5)  # earlier than the one that runs
    assert timers.next_deadline_ms() == 5
