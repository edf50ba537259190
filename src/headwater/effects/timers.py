"""Callbacks at given times, on a clock that the owner provides.

Nothing here is a task or a thread. The shell asks for the next deadline (`next_deadline_ms`) and calls `run_due` then.
"""

import heapq
from collections.abc import Callable
from itertools import count

from headwater.effects.callbacks import call_all
from headwater.effects.clock import Clock

CANCELLED_MAX = 1024


class Timer:
    """A callback and its deadline. `cancel` prevents the call."""

    __slots__ = ("callback", "deadline_ms", "timers")

    def __init__(self, timers: "Timers", deadline_ms: float, callback: Callable[[], None]) -> None:
        self.timers = timers
        self.deadline_ms = deadline_ms
        self.callback: Callable[[], None] | None = callback

    def run(self) -> None:
        callback, self.callback = self.callback, None
        if callback is not None:
            callback()

    def cancel(self) -> None:
        if self.callback is not None:
            self.callback = None
            self.timers.note_cancelled()


class Timers:
    """All timers, by deadline on the steady clock."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.heap: list[tuple[float, int, Timer]] = []
        self.serial = count()
        self.cancelled = 0

    def call_later(self, delay_ms: float, callback: Callable[[], None]) -> Timer:
        timer = Timer(self, self.clock.steady_ms() + delay_ms, callback)
        heapq.heappush(self.heap, (timer.deadline_ms, next(self.serial), timer))
        return timer

    def note_cancelled(self) -> None:
        self.cancelled += 1
        if self.cancelled > CANCELLED_MAX and self.cancelled > len(self.heap) // 2:
            self.heap = [entry for entry in self.heap if entry[2].callback is not None]
            heapq.heapify(self.heap)
            self.cancelled = 0

    def next_deadline_ms(self) -> float | None:
        """When `run_due` should be called next; None if nothing is scheduled."""
        while self.heap and self.heap[0][2].callback is None:
            heapq.heappop(self.heap)
            self.cancelled = max(0, self.cancelled - 1)
        return self.heap[0][0] if self.heap else None

    def run_due(self) -> None:
        """Calls everything that is due. What those calls schedule waits for the next `run_due`, even if it is due at once.

        A callback that raises does not prevent the others: at the end, all that was raised is raised as an ExceptionGroup.
        """
        now = self.clock.steady_ms()
        due = []
        while self.heap and self.heap[0][0] <= now:
            due.append(heapq.heappop(self.heap)[2])
        call_all(timer.run for timer in due)


class RestartableTimer:
    """A callback whose deadline is often moved, such as the end of a session, which each heartbeat restarts.

    A running timer is not moved, which is cheaper: when it is due, it checks whether the deadline was moved meanwhile.
    """

    __slots__ = ("callback", "deadline_ms", "timer", "timers")

    def __init__(self, timers: Timers, callback: Callable[[], None]) -> None:
        self.timers, self.callback = timers, callback
        self.deadline_ms = 0.0
        self.timer: Timer | None = None  # due at the deadline or before

    def restart(self, delay_ms: float) -> None:
        """Calls back after that time, and not when it would have done so before."""
        self.deadline_ms = deadline_ms = self.timers.clock.steady_ms() + delay_ms
        timer = self.timer
        if timer is None or timer.deadline_ms > deadline_ms:
            self.cancel()
            self.timer = self.timers.call_later(delay_ms, self.look)

    def look(self) -> None:
        self.timer = None
        left_ms = self.deadline_ms - self.timers.clock.steady_ms()
        if left_ms > 0:
            self.timer = self.timers.call_later(left_ms, self.look)
        else:
            self.callback()

    def cancel(self) -> None:
        """Does not call back, until it is restarted."""
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None
