"""Decide, append, replay: in that order, or not at all."""

import errno
from collections.abc import Iterator

import pytest

from headwater.replay.decision import Decision, Runtime
from headwater.replay.deferred import Deferred
from tests.replay.state_log import MemoryStateLog

Count = tuple[str, int]


class Counters:
    """The example of the module's docstring."""

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}

    def add(self, name: str, number: int) -> Decision[Count, int]:
        total = self.counts.get(name, 0) + number
        return Decision([(name, total)] if number else [], total)

    def replay(self, record: Count) -> None:
        name, total = record
        self.counts[name] = total

    def snapshot(self) -> Iterator[Count]:
        yield from self.counts.items()


def carried_out(answer: int | Deferred[int]) -> Deferred[int]:
    assert isinstance(answer, Deferred)
    return answer


def runtime_of(counters: Counters) -> tuple[Runtime[Count], MemoryStateLog[Count]]:
    log: MemoryStateLog[Count] = MemoryStateLog()
    return Runtime(counters, log), log


def test_a_decision_changes_nothing_by_itself() -> None:
    counters = Counters()
    assert counters.add("a", 3) == ([("a", 3)], 3)
    assert counters.counts == {}


def test_it_is_appended_and_replayed_at_once_and_answered_when_it_is_on_disk() -> None:
    counters = Counters()
    runtime, log = runtime_of(counters)
    answer = carried_out(runtime.carry_out("a", counters.add("a", 3)))
    assert log.appended == [("a", [("a", 3)])]
    assert counters.counts == {"a": 3}
    assert not answer.done
    log.sync()
    assert answer.answer == 3


def test_the_next_decision_builds_on_one_that_is_not_on_disk_yet() -> None:
    counters = Counters()
    runtime, log = runtime_of(counters)
    answers = [carried_out(runtime.carry_out("a", counters.add("a", 3))) for _ in range(2)]
    log.sync()
    assert [answer.answer for answer in answers] == [3, 6]


def test_an_answer_without_records_is_given_at_once() -> None:
    counters = Counters()
    runtime, log = runtime_of(counters)
    assert runtime.carry_out("a", counters.add("a", 0)) == 0
    assert log.appended == []


def test_an_append_that_fails_changes_nothing() -> None:
    counters = Counters()
    runtime, log = runtime_of(counters)
    log.error = OSError(errno.ENOSPC, "the disk is full")
    with pytest.raises(OSError, match="the disk is full"):
        runtime.carry_out("a", counters.add("a", 3))
    assert counters.counts == {}


def test_a_restart_and_a_snapshot_make_the_same_state() -> None:
    counters = Counters()
    runtime, log = runtime_of(counters)
    for name in "aba":
        runtime.carry_out(name, counters.add(name, 1))
    for records in (log.records, list(counters.snapshot())):
        again = Counters()
        for record in records:
            again.replay(record)
        assert again.counts == counters.counts == {"a": 2, "b": 1}


def test_a_read_that_must_not_be_taken_back_waits_for_its_sync() -> None:
    counters = Counters()
    runtime, log = runtime_of(counters)
    sync = runtime.apply("a", [("a", 1)])
    read = carried_out(runtime.answer_when_durable(sync, counters.counts["a"]))
    assert not read.done
    log.sync()
    assert read.answer == 1
    assert runtime.answer_when_durable(sync, 2) == 2
