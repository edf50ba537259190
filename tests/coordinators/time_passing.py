"""Lets time pass for a coordinator under test, without waiting."""

from headwater.effects.clock import ManualClock
from headwater.effects.timers import Timers


def advance(clock: ManualClock, timers: Timers, milliseconds: float) -> None:
    """Moves the clock on, from timer to timer, and runs each when it is due."""
    end_ms = clock.steady_ms() + milliseconds
    while (next_ms := timers.next_deadline_ms()) is not None and next_ms <= end_ms:
        clock.advance(next_ms - clock.steady_ms())
        timers.run_due()
    clock.advance(end_ms - clock.steady_ms())
