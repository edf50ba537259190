"""The simulated world: one seed, one clock, one queue of events. Everything that happens is an event, and events never overlap.

Nothing here waits in real time. The next event is the one with the earliest time; if several have the same time, the one
that was planned first. The clock jumps to that time, and the event's function is called. So an hour without events costs
nothing. A seed always gives the same run: every choice (a delay, a fault, what a crash leaves) comes from one generator.

There are two clocks, as on a real machine. The steady clock only moves with the events. The wall clock moves with it, and
jumps when it is set: it gives records their timestamps, and retention uses it to decide what is old.

`transcript` is a hash of everything that crossed the network, with its time. Two runs of a seed must give the same hash.
"""

import heapq
from collections.abc import Callable, Generator
from hashlib import blake2b
from itertools import count
from random import Random
from typing import Any, TypeAlias

from headwater.effects.clock import ManualClock

EPOCH_MS = 1_700_000_000_000
Resume: TypeAlias = Callable[[Any], None]
Wait: TypeAlias = Callable[[Resume], None]
Process: TypeAlias = Generator[Wait, Any, None]
"""A process yields what it waits for, and is resumed with the result: `answer = yield from client.call(...)`."""


class World:
    """See the module's docstring."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.random = Random(seed)
        self.clock = ManualClock(EPOCH_MS)
        self.wall_offset_ms = 0
        self.latest_wall_ms = EPOCH_MS
        self.events: list[tuple[float, int, Callable[[], None]]] = []
        self.serial = count()
        self.transcript = blake2b(digest_size=16)
        self.trace: list[bytes] | None = None  # set a list to collect the transcript's content, to compare two runs
        self.on_power_cut: Callable[[], None] = lambda: None
        self.findings: list[str] = []

    # -- time

    @property
    def now_ms(self) -> float:
        return self.clock.now_steady_ms

    def set_clock(self, now_ms: float) -> None:
        self.clock.now_steady_ms = now_ms
        wall_ms = EPOCH_MS + int(now_ms) + self.wall_offset_ms
        self.clock.now_wall_ms = wall_ms
        self.latest_wall_ms = max(self.latest_wall_ms, wall_ms)

    def jump(self, milliseconds: int) -> None:
        """Sets the wall clock forward or back."""
        self.wall_offset_ms += milliseconds
        self.set_clock(self.now_ms)
        self.record(f"clock {milliseconds}".encode())

    def later(self, delay_ms: float, event: Callable[[], None]) -> None:
        """Plans an event."""
        heapq.heappush(self.events, (self.now_ms + delay_ms, next(self.serial), event))

    def at(self, moment_ms: float, event: Callable[[], None]) -> None:
        heapq.heappush(self.events, (max(self.now_ms, moment_ms), next(self.serial), event))

    def run_until(self, end_ms: float, is_done: Callable[[], bool] | None = None) -> None:
        """Runs events up to that time, or until `is_done` returns True."""
        events = self.events
        while events and events[0][0] <= end_ms:
            moment_ms, _, event = heapq.heappop(events)
            self.set_clock(moment_ms)
            try:
                event()
            except PowerCutError:
                self.on_power_cut()
            if is_done is not None and is_done():
                return
        self.set_clock(max(self.now_ms, end_ms))

    # -- processes

    def start(self, process: Process) -> None:
        """Starts a process; its first step is an event at the present time."""
        self.later(0, lambda: self.resume(process, None))

    def resume(self, process: Process, value: Any) -> None:
        try:
            wait = process.send(value)
        except StopIteration:
            return
        wait(lambda result: self.resume(process, result))

    def sleep(self, delay_ms: float) -> Process:
        """Waits, in a process."""
        yield lambda resume: self.later(delay_ms, lambda: resume(None))

    # -- choices and findings

    def chance(self, probability: float) -> bool:
        return self.random.random() < probability

    def record(self, data: bytes) -> None:
        """Adds an event and the present time to the transcript."""
        self.transcript.update(b"%.6f " % self.now_ms)
        self.transcript.update(data)
        if self.trace is not None:
            self.trace.append(b"%.6f " % self.now_ms + data)

    def find(self, text: str) -> None:
        """Reports something that no broker may do, and that the history does not show."""
        self.findings.append(f"at {self.now_ms / 1000:.3f} s: {text}")


class PowerCutError(BaseException):
    """The power is cut in the middle of a call on the files. No error handler catches this, as none could in reality."""
