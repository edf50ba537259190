"""Work in slices: how long one takes, whose turn it is, and what becomes of errors and of work that nobody wants any more."""

import pytest

from headwater.effects.clock import ManualClock
from headwater.effects.waits import Deferred, Timers
from headwater.effects.work import SLICE_MS, Steps, Work, WorkQueue


class Bench:
    """A queue, and generators whose every step takes a millisecond."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.timers = Timers(self.clock)
        self.queue = WorkQueue(self.clock, self.timers)
        self.done: list[str] = []

    def steps(self, name: str, count: int, result: object = None) -> Steps[object]:
        for _ in range(count):
            self.clock.advance(1)
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
    assert bench.queue.begin(bench.steps("a", 5, "result")) == "result"
    assert bench.timers.next_deadline_ms() is None


def test_a_turn_has_one_slice_however_much_work_there_is() -> None:
    bench = Bench()
    works = [bench.queue.begin(bench.steps(name, 100, name)) for name in "abc"]
    assert all(isinstance(work, Work) for work in works)
    assert bench.done == ["a"] * int(SLICE_MS) + ["b", "c"]  # a short first slice where others wait already
    turns = [bench.turn() for _ in range(6)]
    assert [set(turn) for turn in turns] == [{"a"}, {"b"}, {"c"}] * 2
    assert {len(turn) for turn in turns} == {int(SLICE_MS)}


def test_results_come_when_the_last_step_is_done() -> None:
    bench = Bench()
    waiting = Deferred()
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
    for _ in range(5):
        bench.turn()
    assert ended == ["ValueError('a defect')"]
    assert second.deferred.answer == "b"


def iter_now(steps: Steps[object]) -> Steps[object]:
    """The same without a yield in between: what is left raises in the first slice."""
    for _ in steps:
        pass
    return
    yield


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
