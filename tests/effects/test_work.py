"""Work in slices: how long one takes, whose turn it is, and what becomes of errors and of work that nobody waits for."""

import gc
import weakref
from collections.abc import Callable
from typing import Any

import pytest

from headwater.effects.clock import ManualClock
from headwater.effects.timers import Timers
from headwater.effects.work import SLICE_MS, Steps, Work, WorkQueue, alone, at_once, elsewhere
from headwater.replay.deferred import Deferred


class Bench:
    """A queue, and generators of whose steps eight fill a slice."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.timers = Timers(self.clock)
        self.queue = WorkQueue(self.clock, self.timers)
        self.done: list[str] = []

    def steps(self, name: str, count: int, result: object = None) -> Steps[object]:
        for _ in range(count):
            self.clock.advance(SLICE_MS / 8)
            self.done.append(name)
            yield
        return result

    def turn(self) -> list[str]:
        """What is done in one turn of the loop."""
        self.done.clear()
        self.timers.run_due()
        return list(self.done)


def test_what_is_done_in_one_slice_has_its_result_at_once() -> None:
    bench = Bench()
    assert bench.queue.begin(bench.steps("a", 7, "result")) == "result"
    assert bench.timers.next_deadline_ms() is None


def test_a_turn_has_one_slice_however_much_work_there_is() -> None:
    bench = Bench()
    works = [bench.queue.begin(bench.steps(name, 100, name)) for name in "abc"]
    assert all(isinstance(work, Work) for work in works)
    assert bench.done == ["a"] * 8 + ["b"] * 4 + ["c"] * 4  # a short first slice where others wait already
    turns = [bench.turn() for _ in range(6)]
    assert [set(turn) for turn in turns] == [{"a"}, {"b"}, {"c"}] * 2
    assert {len(turn) for turn in turns} == {8}


def test_results_come_when_the_last_step_is_done() -> None:
    bench = Bench()
    waiting: Deferred[str] = Deferred()
    work = bench.queue.begin(bench.steps("a", 25, waiting))
    assert isinstance(work, Work)
    ended: list[Exception | None] = []
    work.when_done(ended.append)
    while not ended:
        bench.turn()
    assert ended == [None]
    assert not work.deferred.done  # the result waits for something else, and no turn is spent on it
    assert bench.turn() == []
    waiting.complete("durable")
    assert work.deferred.answer == "durable"


def test_an_error_ends_its_own_work_only() -> None:
    bench = Bench()

    def failing() -> Steps[object]:
        yield from bench.steps("a", 15)
        raise ValueError("a defect")

    with pytest.raises(ValueError, match="a defect"):
        bench.queue.begin(iter_now(failing()))
    first, second = bench.queue.begin(failing()), bench.queue.begin(bench.steps("b", 15, "b"))
    assert isinstance(first, Work)
    assert isinstance(second, Work)
    ended: list[str] = []
    first.when_done(lambda error: ended.append(repr(error)))
    for _ in range(2 * 15):
        bench.turn()
    assert ended == ["ValueError('a defect')"]
    assert second.deferred.answer == "b"


def iter_now(steps: Steps[object]) -> Steps[object]:
    """The same without a yield in between: what is left raises in the first slice."""
    yield from ()
    for _ in steps:
        pass
    return None


def test_cancelled_work_does_no_further_step() -> None:
    bench = Bench()
    work, other = bench.queue.begin(bench.steps("a", 100)), bench.queue.begin(bench.steps("b", 100))
    assert isinstance(work, Work)
    assert isinstance(other, Work)
    work.cancel()
    assert {name for _ in range(4) for name in bench.turn()} == {"b"}
    other.cancel()
    assert bench.turn() == []
    assert bench.timers.next_deadline_ms() is None


class OtherThread:
    """Calls wait here until `end` lets the first one end, as a thread would."""

    def __init__(self, queue: WorkQueue) -> None:
        queue.run_elsewhere = self.begin
        self.calls: list[tuple[Callable[[], Any], Callable[[Any], None]]] = []

    def begin(self, function: Callable[[], Any], done: Callable[[Any], None]) -> None:
        self.calls.append((function, done))

    def end(self) -> None:
        function, done = self.calls.pop(0)
        done(function())


def test_a_call_elsewhere_holds_nobody_up() -> None:
    bench = Bench()
    thread = OtherThread(bench.queue)

    def long() -> Steps[object]:
        opened = yield from elsewhere(lambda: "opened")
        return (yield from bench.steps("a", 1, opened))

    work = bench.queue.begin(long())
    assert isinstance(work, Work)
    assert bench.queue.begin(bench.steps("b", 1, "b")) == "b"
    assert bench.turn() == []  # nothing is due while it is waited for
    thread.end()
    assert bench.turn() == ["a"]
    assert work.deferred.answer == "opened"


def test_what_a_call_elsewhere_raises_is_raised_where_it_was_made() -> None:
    def failing() -> Steps[object]:
        try:
            return (yield from elsewhere(lambda: 1 // 0))
        except ZeroDivisionError:
            return "caught"

    bench = Bench()
    assert at_once(failing()) == bench.queue.begin(failing()) == "caught"  # without another thread: here
    thread = OtherThread(bench.queue)
    work = bench.queue.begin(failing())
    thread.end()
    bench.turn()
    assert isinstance(work, Work)
    assert work.deferred.answer == "caught"


def test_one_is_alone_and_the_others_wait_in_line() -> None:
    bench = Bench()
    works = [bench.queue.begin(alone(bench.steps(name, 9, name))) for name in "abc"]
    assert all(isinstance(work, Work) for work in works)
    order = [name for _ in range(20) for name in bench.turn()]
    assert order == sorted(order)
    assert [work.deferred.answer for work in works if isinstance(work, Work)] == ["a", "b", "c"]
    assert at_once(alone(bench.steps("d", 1, "d"))) == "d"


def test_work_that_leaves_the_line_or_fails_inside_lets_the_next_in() -> None:
    bench = Bench()
    thread = OtherThread(bench.queue)

    def opening(name: str) -> Steps[object]:
        opened = yield from elsewhere(lambda: name)
        if name == "c":
            raise ValueError("a defect")
        return opened

    works = [bench.queue.begin(alone(opening(name))) for name in "abcd"]
    first, second, third, fourth = (work for work in works if isinstance(work, Work))
    assert len(thread.calls) == 1
    second.cancel()  # it waits
    first.cancel()  # it is inside, and its call is under way
    thread.end()
    bench.turn()
    ended: list[Exception | None] = []
    third.when_done(ended.append)
    while not ended:
        thread.end()
        bench.turn()
    assert isinstance(ended[0], ValueError)
    bench.turn()
    thread.end()
    bench.turn()
    assert fourth.deferred.answer == "d"
    assert bench.queue.inside is None
    assert not bench.queue.outside


def test_a_call_that_failed_keeps_nothing_in_memory() -> None:
    class Large:
        """Stands for 32 MiB."""

    made: list[weakref.ref[Large]] = []

    def fails() -> None:
        large = Large()
        made.append(weakref.ref(large))
        try:
            raise ValueError("damaged")
        except ValueError as error:
            raise RuntimeError("cannot be opened") from error

    def work() -> Steps[object]:
        yield from elsewhere(fails)
        return None

    bench = Bench()
    gc.disable()  # no collection may be needed
    try:
        with pytest.raises(RuntimeError):
            bench.queue.begin(work())
        assert made[0]() is None
    finally:
        gc.enable()
