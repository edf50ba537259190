"""Time, as the core sees it: a wall clock for records and a steady one for deadlines, both in milliseconds."""

import time
from collections.abc import Callable
from typing import Protocol


class Clock(Protocol):
    """The two clocks that the core may read."""

    def wall_ms(self) -> int:
        """Milliseconds since 1970, as in a record's timestamp; it may jump."""
        ...

    def steady_ms(self) -> float:
        """Milliseconds from an arbitrary start; it never goes back. For deadlines."""
        ...


class SystemClock:
    """The machine's clocks."""

    def wall_ms(self) -> int:
        return time.time_ns() // 1_000_000

    def steady_ms(self) -> float:
        return time.monotonic_ns() / 1_000_000


def seconds_of(clock: Clock) -> Callable[[], float]:
    """The steady clock in seconds, for a loop that asks for each event: of the machine's, the bare function, at half the cost."""
    return time.monotonic if isinstance(clock, SystemClock) else lambda: clock.steady_ms() / 1000


class ManualClock:
    """A clock that only `advance` moves: for tests and simulations."""

    def __init__(self, wall_ms: int = 1_700_000_000_000) -> None:
        self.now_wall_ms = wall_ms
        self.now_steady_ms = 0.0

    def wall_ms(self) -> int:
        return self.now_wall_ms

    def steady_ms(self) -> float:
        return self.now_steady_ms

    def advance(self, milliseconds: float) -> None:
        """Moves both clocks forward."""
        self.now_wall_ms += int(milliseconds)
        self.now_steady_ms += milliseconds


class MovableClock:
    """The machine's clocks, plus how far a test has moved them ahead: hours can pass while everything else runs as usual."""

    def __init__(self) -> None:
        self.moved_ms = 0.0
        self.listeners: list[Callable[[], None]] = []

    def wall_ms(self) -> int:
        return time.time_ns() // 1_000_000 + int(self.moved_ms)

    def steady_ms(self) -> float:
        return time.monotonic_ns() / 1_000_000 + self.moved_ms

    def advance(self, milliseconds: float) -> None:
        """Moves both clocks ahead. Everything that is due by then happens."""
        self.moved_ms += milliseconds
        for listener in list(self.listeners):
            listener()


def watch_moves(clock: Clock, listener: Callable[[], None]) -> None:
    """Calls `listener` whenever the clock is moved, in the thread that moves it. Other clocks are never moved."""
    if isinstance(clock, MovableClock):
        clock.listeners.append(listener)


def unwatch_moves(clock: Clock, listener: Callable[[], None]) -> None:
    if isinstance(clock, MovableClock) and listener in clock.listeners:
        clock.listeners.remove(listener)
