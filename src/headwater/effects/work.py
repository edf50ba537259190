"""Work that would block the loop for too long is done in slices, so that other clients are served in between.

A request that names thousands of partitions, or a batch with millions of records, must not make other clients wait.
Such work is a generator that yields between its steps. The first slice runs at once, and nearly every request is done within
it. Work that is left waits in a queue. A timer runs one slice of the first in the queue, and moves that work to the end. So a
turn of the loop has one slice, however much work there is, and no work has to wait until other work is complete.

Anything may happen between two steps. So each step must leave a consistent state, and must not rely on what it read before.

Two problems remain. A single call may take long, for example decompressing 32 MiB. `elsewhere` runs it in another thread;
the call must not touch the owner's state. And the result of a step may be large. `alone` admits one piece of work at a time,
and the others wait in line. For example, a hundred clients that each send a decompression bomb need the memory for one.
"""

import traceback
from collections import deque
from collections.abc import Callable, Generator
from typing import Any, NamedTuple, TypeAlias, TypeVar

from headwater.effects.clock import Clock
from headwater.effects.timers import Timers
from headwater.replay.deferred import Deferred

SLICE_MS = 1.0
CROWDED_SLICE_MS = 0.5  # for work that begins while other work waits

Result = TypeVar("Result")


class Outcome(NamedTuple):
    """What a call in another thread returned or raised."""

    result: Any
    error: Exception | None


class Call:
    """A step that runs in another thread. The generator receives its Outcome."""

    __slots__ = ("function",)

    def __init__(self, function: Callable[[], Any]) -> None:
        self.function = function

    def run(self) -> Outcome:
        try:
            return Outcome(self.function(), None)
        except Exception as error:  # noqa: BLE001 - it is raised where the call was made
            release_locals(error)
            return Outcome(None, error)


def release_locals(error: BaseException | None) -> None:
    """Frees the local variables of the functions that failed. The lines of the traceback stay."""
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        error = error.__cause__ or error.__context__


class Place:
    """A step that ends when its work is admitted, alone. `leave` admits the next, or gives up the place in line."""

    __slots__ = ("leave",)

    def __init__(self) -> None:
        self.leave: Callable[[], None] = lambda: None


Steps: TypeAlias = Generator[Any, Any, Result]  # it yields None, or a Call or Place to wait for
RunElsewhere: TypeAlias = Callable[[Callable[[], Any], Callable[[Any], None]], None]


def elsewhere(function: Callable[[], Result]) -> Steps[Result]:
    """The result of a function that runs in another thread. Raises what it raises."""
    outcome: Outcome = yield Call(function)
    if outcome.error is not None:
        try:
            raise outcome.error
        finally:
            del outcome  # the error's traceback refers to this frame, so this frame must not refer to the error
    result: Result = outcome.result
    return result


def alone(steps: Steps[Result]) -> Steps[Result]:
    """Does the steps while no other work that asked for the same does its own."""
    place = Place()
    try:
        yield place
        return (yield from steps)
    finally:
        place.leave()


def at_once(steps: Steps[Result]) -> Result:
    """Runs all the steps, for a caller that may block, and returns their result."""
    outcome: Outcome | None = None
    try:
        while True:
            step = steps.send(outcome)
            outcome = step.run() if isinstance(step, Call) else None
    except StopIteration as stop:
        result: Result = stop.value
        return result


class Work:
    """One generator that is not yet done. Its `deferred` is completed with the result."""

    __slots__ = ("callback", "deferred", "is_done", "sent", "steps")

    def __init__(self, steps: Steps[Any]) -> None:
        self.steps = steps
        self.sent: Outcome | None = None  # what its next step receives
        self.deferred: Deferred[Any] = Deferred()
        self.is_done = False
        self.callback: Callable[[Exception | None], None] | None = None

    def when_done(self, callback: Callable[[Exception | None], None]) -> None:
        """Calls back after the last step, with the exception that ended the work, or None."""
        self.callback = callback

    def cancel(self) -> None:
        """The result is no longer wanted: no further step is done."""
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
    """All unfinished work. `run_elsewhere` runs a function in another thread, and calls back in the loop's thread.

    If it is None there is no other thread, and a Call is a step like any other.
    """

    def __init__(self, clock: Clock, timers: Timers) -> None:
        self.clock = clock
        self.timers = timers
        self.run_elsewhere: RunElsewhere | None = None
        self.queue: deque[Work] = deque()
        self.inside: Place | None = None
        self.outside: dict[Place, Work] = {}  # those that wait to be admitted, in order
        self.is_scheduled = False

    def begin(self, steps: Steps[Result]) -> Result | Work:
        """Runs the first slice. Returns the result, or the work that is left. Raises what the steps raise."""
        work = Work(steps)
        try:
            step = self.advance(work, CROWDED_SLICE_MS if self.queue else SLICE_MS)
        except StopIteration as stop:
            result: Result = stop.value
            return result
        self.wait_for(work, step)
        return work

    def advance(self, work: Work, slice_ms: float) -> Call | Place | None:
        """Runs steps until the slice is over or a step has to wait; returns that step. Raises what the steps raise."""
        until_ms = self.clock.steady_ms() + slice_ms
        while not work.is_done:
            sent, work.sent = work.sent, None
            step: Call | Place | None = work.steps.send(sent)
            if isinstance(step, Call) and self.run_elsewhere is None:
                work.sent = step.run()
            elif isinstance(step, Place) and self.inside is None:
                self.let_in(step)
            elif step is not None or self.clock.steady_ms() >= until_ms:
                return step
        return None

    def wait_for(self, work: Work, step: Call | Place | None) -> None:
        """Makes the work wait before its next step: for its turn, for a call, or for a place."""
        if isinstance(step, Place):
            step.leave = lambda: self.leave(step)
            self.outside[step] = work
        elif isinstance(step, Call) and self.run_elsewhere is not None:
            self.run_elsewhere(step.run, lambda outcome: self.proceed(work, outcome))
        else:
            self.proceed(work)

    def proceed(self, work: Work, outcome: Outcome | None = None) -> None:
        if not work.is_done:
            work.sent = outcome
            self.queue.append(work)
            self.schedule()

    def let_in(self, place: Place) -> None:
        place.leave = lambda: self.leave(place)
        self.inside = place

    def leave(self, place: Place) -> None:
        """Admits the next one, or removes one from the line."""
        if place is not self.inside:
            self.outside.pop(place, None)
            return
        self.inside = next(iter(self.outside), None)
        if self.inside is not None:
            self.proceed(self.outside.pop(self.inside))

    def schedule(self) -> None:
        if self.queue and not self.is_scheduled:
            self.is_scheduled = True
            self.timers.call_later(0, self.run)

    def run(self) -> None:
        """Runs one slice of the work that has waited longest."""
        self.is_scheduled = False
        while self.queue and self.queue[0].is_done:
            self.queue.popleft()
        if not self.queue:
            return
        work = self.queue.popleft()
        try:
            step = self.advance(work, SLICE_MS)
            if not work.is_done:
                self.wait_for(work, step)
        except StopIteration as stop:
            work.end(stop.value, None)
        except Exception as error:  # noqa: BLE001 - given to the connection, which is what a request's failure ends
            work.end(None, error)
        finally:
            self.schedule()
