"""Work that would block the loop for too long, done in slices, so that other clients are served in between.

A request that names thousands of partitions, or a batch with millions of records, must not make other clients wait.
What it asks for is a generator that yields between its steps. The first slice runs at once, and nearly every request is
done in it. The rest waits in a queue: a timer runs one slice of the first in it, and sends it to the end. So a turn of the
loop has one slice, however much work there is, and no work waits for the end of another.

Anything may happen between two steps: each step must leave a consistent state, and read the state again.
"""

from collections import deque
from collections.abc import Callable, Generator
from typing import Any, TypeAlias, TypeVar

from headwater.effects.clock import Clock
from headwater.effects.waits import Deferred, Timers

SLICE_MS = 10.0
CROWDED_SLICE_MS = 1.0  # of what begins while others wait

Result = TypeVar("Result")
Steps: TypeAlias = Generator[None, None, Result]


def at_once(steps: Steps[Result]) -> Result:
    """The result of all the steps, for a caller that may wait for them."""
    try:
        while True:
            next(steps)
    except StopIteration as stop:
        result: Result = stop.value
        return result


class Work:
    """One generator that is not yet done. Its `deferred` gets the result."""

    __slots__ = ("callback", "deferred", "is_done", "steps")

    def __init__(self, steps: Steps[Any]) -> None:
        self.steps = steps
        self.deferred = Deferred()
        self.is_done = False
        self.callback: Callable[[Exception | None], None] | None = None

    def when_done(self, callback: Callable[[Exception | None], None]) -> None:
        """Calls back after the last step, with the exception that ended it or None."""
        self.callback = callback

    def cancel(self) -> None:
        """Nobody waits for the result now: no further step is done."""
        if not self.is_done:
            self.is_done = True
            self.steps.close()

    def end(self, result: Any, error: Exception | None) -> None:
        self.is_done = True
        if self.callback is not None:
            self.callback(error)
        if error is not None:
            return
        if isinstance(result, Deferred):
            result.when_done(self.deferred.complete)
        else:
            self.deferred.complete(result)


class WorkQueue:
    """All work that is under way."""

    def __init__(self, clock: Clock, timers: Timers) -> None:
        self.clock = clock
        self.timers = timers
        self.queue: deque[Work] = deque()
        self.is_scheduled = False

    def begin(self, steps: Steps[Result]) -> Result | Work:
        """Runs the first slice: returns the result, or the work that is left. Raises what the steps raise."""
        until_ms = self.clock.steady_ms() + (CROWDED_SLICE_MS if self.queue else SLICE_MS)
        try:
            while True:
                next(steps)
                if self.clock.steady_ms() >= until_ms:
                    break
        except StopIteration as stop:
            result: Result = stop.value
            return result
        work = Work(steps)
        self.queue.append(work)
        self.schedule()
        return work

    def schedule(self) -> None:
        if self.queue and not self.is_scheduled:
            self.is_scheduled = True
            self.timers.call_later(0, self.run)

    def run(self) -> None:
        """One slice of the work that has waited longest."""
        self.is_scheduled = False
        while self.queue and self.queue[0].is_done:
            self.queue.popleft()
        if not self.queue:
            return
        work = self.queue.popleft()
        try:
            self.run_slice(work)
        finally:
            if not work.is_done:
                self.queue.append(work)
            self.schedule()

    def run_slice(self, work: Work) -> None:
        until_ms = self.clock.steady_ms() + SLICE_MS
        try:
            while not work.is_done:
                next(work.steps)
                if self.clock.steady_ms() >= until_ms:
                    return
        except StopIteration as stop:
            work.end(stop.value, None)
        except Exception as error:  # noqa: BLE001 - given to the connection, which is what a request's failure ends
            work.end(None, error)
