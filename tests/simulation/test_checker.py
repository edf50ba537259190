"""Each anomaly in a history made by hand, which the checker must find, and beside it a clean twin, which it must pass."""

from collections.abc import Callable
from typing import Any

import pytest

from headwater.testing.simulate.anomalies import AnomalyKind, Copy, Rules
from headwater.testing.simulate.checker import check
from headwater.testing.simulate.history import (
    CommitOffset,
    DeleteRecords,
    DeleteTopic,
    EndTransaction,
    FetchOffset,
    History,
    LookUp,
    Outcome,
    Poll,
    Send,
)

OK, FAILED, UNKNOWN = Outcome.OK, Outcome.FAILED, Outcome.UNKNOWN


class Story(History):
    """A history in few words: everything is on topic `t`, partition 0, unless it is said otherwise."""

    def send(self, offset: int | None, *values: bytes, outcome: Outcome = OK, **more: Any) -> Send:
        place = {"topic": "t", "partition": 0, "producer": "p", **more}
        send = self.begin(Send(process="p", values=values, offset=offset, **place))
        self.end(send, outcome)
        return send

    def poll(self, position: int, *records: tuple[int, bytes], end: int | None = None, **more: Any) -> Poll:
        place = {"process": "c", "topic": "t", "partition": 0, **more}
        poll = self.begin(Poll(position=position, records=records, **place))
        poll.next_position = end if end is not None else records[-1][0] + 1 if records else position
        self.end(poll, OK)
        return poll

    def final(self, *records: tuple[int, bytes], start: int = 0, **more: Any) -> None:
        """Both final reads, which see the same unless `committed` says what readers of committed records see."""
        committed = more.pop("committed", records)
        self.poll(start, *records, is_final=True, log_start=start, **more)
        end = more.pop("end", records[-1][0] + 1 if records else start)
        self.poll(start, *committed, end=end, is_final=True, is_committed=True, log_start=start, **more)

    def finish(self, transaction: str, outcome: Outcome = OK, *, commit: bool = True) -> None:
        self.end(self.begin(EndTransaction(process="p", transaction=transaction, commit=commit)), outcome)

    def commit(self, offset: int, outcome: Outcome = OK, transaction: str = "") -> None:
        commit = CommitOffset(process="c", group="g", topic="t", partition=0, offset=offset, transaction=transaction)
        self.end(self.begin(commit), outcome)

    def fetch(self, offset: int) -> None:
        fetch = FetchOffset(process="c", group="g", topic="t", partition=0, offset=offset)
        self.end(self.begin(fetch), OK)


def kinds(story: Story, rules: Rules | None = None) -> list[AnomalyKind]:
    return [anomaly.kind for anomaly in check(story, rules)]


def lost_write(story: Story, is_bad: bool) -> Rules | None:
    story.send(0, b"1")
    story.send(1, b"2")
    story.final((0, b"1"), *(() if is_bad else ((1, b"2"),)))
    return None


def lost_without_offset(story: Story, is_bad: bool) -> Rules | None:
    story.send(None, b"1")
    story.final(*(() if is_bad else ((0, b"1"),)))
    return None


def lost_although_a_compacted_topic(story: Story, is_bad: bool) -> Rules | None:
    """An aborted record of the same key replaces nothing."""
    story.send(0, b"1", keys=(b"k",))
    story.send(1, b"2", keys=(b"k",), transaction="x")
    story.finish("x", commit=not is_bad)
    story.final((1, b"2"), committed=() if is_bad else ((1, b"2"),), end=3)
    return Rules(compacted=frozenset({"t"}))


def hidden_from_readers_of_committed(story: Story, is_bad: bool) -> Rules | None:
    story.send(0, b"1")
    story.final((0, b"1"), committed=() if is_bad else ((0, b"1"),))
    return None


def lost_transaction(story: Story, is_bad: bool) -> Rules | None:
    story.send(0, b"1", transaction="x")
    story.finish("x")
    story.final((0, b"1"), committed=() if is_bad else ((0, b"1"),), end=2)
    return None


def duplicate(story: Story, is_bad: bool) -> Rules | None:
    story.send(1, b"1", producer="p" if is_bad else "")  # a plain producer's retry may write twice
    story.final((0, b"1"), (1, b"1"))
    return None


def duplicate_of_two_attempts(story: Story, is_bad: bool) -> Rules | None:
    story.send(0, b"1", transaction="x")
    story.finish("x", commit=is_bad)
    story.send(2, b"1", transaction="y")
    story.finish("y")
    both = (0, b"1"), (2, b"1")
    story.final(*both, committed=both if is_bad else both[1:], end=4)
    return None


def duplicate_in_one_transaction(story: Story, is_bad: bool) -> Rules | None:
    """The first was aborted by a start that could not ascribe it; its producer had no answer and sent it again."""
    story.send(2, b"1", transaction="x")
    story.finish("x")
    both = (0, b"1"), (2, b"1")
    story.final(*both, committed=both if is_bad else both[1:], end=4)
    return None


def reordered(story: Story, is_bad: bool) -> Rules | None:
    story.send(None, b"1")
    story.send(None, b"2", producer="p" if is_bad else "q")
    story.final((0, b"2"), (1, b"1"))
    return None


def inconsistent_offset(story: Story, is_bad: bool) -> Rules | None:
    story.send(0, b"1", outcome=UNKNOWN)
    story.poll(0, (0, b"1"))
    story.send(0 if is_bad else 1, b"2")
    story.final((0, b"1"), (1, b"2"))
    return None


def read_before_durable(story: Story, is_bad: bool) -> Rules | None:
    story.send(None, b"1", outcome=UNKNOWN)
    story.poll(0, (0, b"1"))
    story.final(*(() if is_bad else ((0, b"1"),)))
    return None


def aborted_read(story: Story, is_bad: bool) -> Rules | None:
    story.send(0, b"1", transaction="x")
    story.finish("x", commit=False)
    story.poll(0, (0, b"1"), is_committed=is_bad)
    story.final((0, b"1"), committed=(), end=2)
    return None


def read_of_what_was_left_open(story: Story, is_bad: bool) -> Rules | None:
    """Nobody asked for the commit, or it was refused: the producer is gone, or fenced."""
    story.send(0, b"1", transaction="x")
    story.finish("x", FAILED)
    story.final((0, b"1"), committed=((0, b"1"),) if is_bad else (), end=2)
    return None


def aborted_offset(story: Story, is_bad: bool) -> Rules | None:
    story.send(0, b"1")
    story.commit(1, transaction="x")
    story.finish("x", commit=not is_bad)
    story.fetch(1)
    story.final((0, b"1"))
    return None


def precommitted_read(story: Story, is_bad: bool) -> Rules | None:
    story.send(0, b"1", transaction="x")
    story.poll(0, (0, b"1"), is_committed=is_bad)
    story.finish("x")
    story.final((0, b"1"), end=2)
    return None


def torn_transaction(story: Story, is_bad: bool) -> Rules | None:
    story.send(0, b"1", transaction="x")
    story.send(0, b"2", transaction="x", partition=1)
    story.finish("x", UNKNOWN)
    story.final((0, b"1"), end=2)
    story.final((0, b"2"), committed=() if is_bad else ((0, b"2"),), end=2, partition=1)
    return None


def transaction_without_its_offset(story: Story, is_bad: bool) -> Rules | None:
    """The records are there: so the transaction was committed, and the offset must be there too."""
    story.commit(5)
    story.send(5, b"1", transaction="x")
    story.commit(6, transaction="x")
    story.finish("x", UNKNOWN)
    story.fetch(5 if is_bad else 6)
    story.final((5, b"1"), end=7, committed=() if is_bad else ((5, b"1"),), start=5)
    if is_bad:
        story.fetch(6)
    return None


def stale_offset_of_a_transaction(story: Story, is_bad: bool) -> Rules | None:
    """The commit was not answered, but its records are there: so the offset is."""
    story.commit(1)
    story.send(1, b"1", transaction="x")
    story.commit(2, transaction="x")
    story.finish("x", UNKNOWN)
    story.final((1, b"1"), end=3, start=1)
    story.fetch(1 if is_bad else 2)
    return None


def two_ends(story: Story, is_bad: bool) -> Rules | None:
    story.send(0, b"1", transaction="x")
    story.finish("x", UNKNOWN if not is_bad else OK, commit=False)
    story.finish("x")
    story.final((0, b"1"), end=2)
    return None


def failed_write_read(story: Story, is_bad: bool) -> Rules | None:
    story.send(None, b"1", outcome=FAILED if is_bad else UNKNOWN)
    story.final((0, b"1"))
    return None


def unknown_value(story: Story, is_bad: bool) -> Rules | None:
    story.send(0, b"1", partition=1 if is_bad else 0)
    story.final((0, b"1"))
    if is_bad:
        story.final((0, b"1"), partition=1)
    return None


def read_before_it_was_sent(story: Story, is_bad: bool) -> Rules | None:
    if is_bad:
        story.poll(0, (0, b"1"))
    story.send(0, b"1")
    story.final((0, b"1"))
    return None


def poll_skip(story: Story, is_bad: bool) -> Rules | None:
    story.send(0, b"1", b"2", b"3")
    story.poll(0, (0, b"1"), *(() if is_bad else ((1, b"2"),)), (2, b"3"))
    story.final((0, b"1"), (1, b"2"), (2, b"3"))
    return None


def skip_of_a_committed_transaction(story: Story, is_bad: bool) -> Rules | None:
    story.send(0, b"1", transaction="x")
    story.finish("x")
    story.poll(0, *(() if is_bad else ((0, b"1"),)), end=2, is_committed=True)
    story.final((0, b"1"), end=2)
    return None


def nonmonotonic_poll(story: Story, is_bad: bool) -> Rules | None:
    story.send(0, b"1", b"2")
    story.poll(1 if is_bad else 0, (0, b"1"), (1, b"2"))
    story.final((0, b"1"), (1, b"2"))
    return None


def deleted_read(story: Story, is_bad: bool) -> Rules | None:
    story.send(0, b"1", b"2")
    deletion = story.begin(DeleteRecords(process="a", topic="t", partition=0, before=1))
    deletion.low_watermark = 1
    if not is_bad:
        story.poll(0, (0, b"1"), (1, b"2"))
    story.end(deletion, OK)
    if is_bad:
        story.poll(0, (0, b"1"), (1, b"2"))
    story.final((1, b"2"), start=1)
    return None


def read_of_a_deleted_topic(story: Story, is_bad: bool) -> Rules | None:
    story.send(0, b"1")
    story.end(story.begin(DeleteTopic(process="a", topic="t")), OK if is_bad else UNKNOWN)
    story.poll(0, (0, b"1"))
    return None


def early_removal(story: Story, is_bad: bool) -> Rules | None:
    story.send(0, b"1", b"2", timestamps=(100, 200))
    story.final((1, b"2"), start=1)
    return Rules(expired_before_ms={"t": 100 if is_bad else 101})


def unread(story: Story, is_bad: bool) -> Rules | None:
    story.send(0, b"1", outcome=OK if is_bad else FAILED)
    return None


def offset_back(story: Story, is_bad: bool) -> Rules | None:
    story.send(0, b"1", b"2")
    story.commit(1)
    story.commit(2, OK if is_bad else UNKNOWN)
    story.fetch(1)
    story.final((0, b"1"), (1, b"2"))
    return None


def commit_of_a_member_that_was_replaced(story: Story, is_bad: bool) -> Rules | None:
    story.send(0, b"1", b"2")
    story.commit(2)
    story.commit(1, OK if is_bad else FAILED)
    story.final((0, b"1"), (1, b"2"))
    return Rules(exclusive_groups=frozenset({"g"}))


def unknown_offset(story: Story, is_bad: bool) -> Rules | None:
    story.send(0, b"1", b"2")
    story.commit(1 if is_bad else 2)
    story.fetch(2)
    story.final((0, b"1"), (1, b"2"))
    return None


def lost_offset(story: Story, is_bad: bool) -> Rules | None:
    story.send(0, b"1")
    story.commit(1, OK if is_bad else UNKNOWN)
    story.fetch(-1)
    story.final((0, b"1"))
    return None


def beyond_the_log(story: Story, is_bad: bool) -> Rules | None:
    story.send(0, b"1")
    story.commit(2 if is_bad else 1)
    story.final((0, b"1"))
    return None


def beyond_what_was_read(story: Story, is_bad: bool) -> Rules | None:
    story.send(0, b"1", b"2")
    story.poll(0, (0, b"1"), group="g")
    story.commit(2 if is_bad else 1)
    story.final((0, b"1"), (1, b"2"))
    return Rules(exclusive_groups=frozenset({"g"}))


def wrong_look_up(story: Story, is_bad: bool) -> Rules | None:
    story.send(0, b"1", b"2", timestamps=(100, 200))
    look_up = story.begin(LookUp(process="a", topic="t", partition=0, timestamp=100, offset=0, found_timestamp=100))
    if is_bad:
        look_up.offset, look_up.found_timestamp = 1, 200
    story.end(look_up, OK)
    story.final((0, b"1"), (1, b"2"))
    return None


def look_up_that_finds_nothing(story: Story, is_bad: bool) -> Rules | None:
    story.send(0, b"1", timestamps=(100,))
    story.end(story.begin(LookUp(process="a", topic="t", partition=0, timestamp=100 if is_bad else 101)), OK)
    story.final((0, b"1"))
    return None


def look_up_with_a_wrong_time(story: Story, is_bad: bool) -> Rules | None:
    story.send(0, b"1", timestamps=(100,))
    found = 101 if is_bad else 100
    look_up = LookUp(process="a", topic="t", partition=0, timestamp=50, offset=0, found_timestamp=found)
    story.end(story.begin(look_up), OK)
    story.final((0, b"1"))
    return None


def look_up_of_what_is_earlier(story: Story, is_bad: bool) -> Rules | None:
    story.send(0, b"1", timestamps=(100,))
    asked = 101 if is_bad else 100
    look_up = LookUp(process="a", topic="t", partition=0, timestamp=asked, offset=0, found_timestamp=100)
    story.end(story.begin(look_up), OK)
    story.final((0, b"1"))
    return None


def wrong_copy(story: Story, is_bad: bool) -> Rules | None:
    story.send(0, b"1", b"2")
    story.send(0, b"copy:1", topic="u", transaction="x")
    story.commit(2 if is_bad else 1, transaction="x")
    story.finish("x")
    story.fetch(2 if is_bad else 1)
    story.final((0, b"1"), (1, b"2"))
    story.final((0, b"copy:1"), end=2, topic="u")
    return Rules(copies=(Copy("g", "t", "u"),))


CASES: list[tuple[Callable[[Story, bool], Rules | None], AnomalyKind]] = [
    (lost_write, AnomalyKind.LOST_WRITE),
    (lost_without_offset, AnomalyKind.LOST_WRITE),
    (lost_although_a_compacted_topic, AnomalyKind.LOST_WRITE),
    (hidden_from_readers_of_committed, AnomalyKind.LOST_WRITE),
    (lost_transaction, AnomalyKind.LOST_WRITE),
    (duplicate, AnomalyKind.DUPLICATE),
    (duplicate_of_two_attempts, AnomalyKind.DUPLICATE),
    (duplicate_in_one_transaction, AnomalyKind.DUPLICATE),
    (reordered, AnomalyKind.REORDERED),
    (inconsistent_offset, AnomalyKind.INCONSISTENT_OFFSET),
    (read_before_durable, AnomalyKind.READ_BEFORE_DURABLE),
    (aborted_read, AnomalyKind.ABORTED_READ),
    (read_of_what_was_left_open, AnomalyKind.ABORTED_READ),
    (aborted_offset, AnomalyKind.ABORTED_READ),
    (precommitted_read, AnomalyKind.PRECOMMITTED_READ),
    (torn_transaction, AnomalyKind.TORN_TRANSACTION),
    (transaction_without_its_offset, AnomalyKind.ABORTED_READ),
    (stale_offset_of_a_transaction, AnomalyKind.OFFSET_BACK),
    (two_ends, AnomalyKind.TORN_TRANSACTION),
    (failed_write_read, AnomalyKind.FAILED_WRITE_READ),
    (unknown_value, AnomalyKind.UNKNOWN_VALUE),
    (read_before_it_was_sent, AnomalyKind.UNKNOWN_VALUE),
    (poll_skip, AnomalyKind.POLL_SKIP),
    (skip_of_a_committed_transaction, AnomalyKind.POLL_SKIP),
    (nonmonotonic_poll, AnomalyKind.NONMONOTONIC_POLL),
    (deleted_read, AnomalyKind.DELETED_READ),
    (read_of_a_deleted_topic, AnomalyKind.DELETED_READ),
    (early_removal, AnomalyKind.EARLY_REMOVAL),
    (unread, AnomalyKind.UNREAD),
    (offset_back, AnomalyKind.OFFSET_BACK),
    (commit_of_a_member_that_was_replaced, AnomalyKind.OFFSET_BACK),
    (unknown_offset, AnomalyKind.UNKNOWN_OFFSET),
    (lost_offset, AnomalyKind.LOST_OFFSET),
    (beyond_the_log, AnomalyKind.BEYOND_READ),
    (beyond_what_was_read, AnomalyKind.BEYOND_READ),
    (wrong_look_up, AnomalyKind.WRONG_LOOK_UP),
    (look_up_that_finds_nothing, AnomalyKind.WRONG_LOOK_UP),
    (look_up_with_a_wrong_time, AnomalyKind.WRONG_LOOK_UP),
    (look_up_of_what_is_earlier, AnomalyKind.WRONG_LOOK_UP),
    (wrong_copy, AnomalyKind.WRONG_COPY),
]


@pytest.mark.parametrize(("case", "kind"), CASES, ids=[case.__name__ for case, _ in CASES])
def test_an_anomaly_is_found_and_its_clean_twin_passes(
    case: Callable[[Story, bool], Rules | None], kind: AnomalyKind
) -> None:
    bad, good = Story(), Story()
    assert kind in kinds(bad, case(bad, True))
    assert kinds(good, case(good, False)) == []


def test_every_kind_of_anomaly_has_a_case() -> None:
    assert {kind for _, kind in CASES} == set(AnomalyKind)


def test_what_has_an_excuse_may_be_missing() -> None:
    """Compaction, deletion and damage may take records, each only where it is at work."""
    story = Story()
    story.send(0, b"1", b"2", keys=(b"k", b"k"))
    story.final((1, b"2"))
    assert kinds(story, Rules(compacted=frozenset({"t"}))) == []
    assert kinds(story, Rules(damaged=frozenset({("t", 0)}))) == []
    assert kinds(story, Rules(damaged=frozenset({("t", 1)}))) == [AnomalyKind.LOST_WRITE]


def test_what_is_compacted_between_the_two_final_reads_is_not_lost() -> None:
    story = Story()
    story.send(0, b"1", b"2", keys=(b"k", b"k"))
    story.final((0, b"1"), (1, b"2"), committed=((1, b"2"),))
    assert kinds(story, Rules(compacted=frozenset({"t"}))) == []
    assert kinds(story) == [AnomalyKind.LOST_WRITE]


def test_the_newest_record_of_a_key_is_hidden_from_nobody() -> None:
    story = Story()
    story.send(0, b"1", b"2", keys=(b"k", b"k"))
    story.final((0, b"1"), (1, b"2"), committed=((0, b"1"),))
    assert kinds(story, Rules(compacted=frozenset({"t"}))) == [AnomalyKind.LOST_WRITE]


@pytest.mark.parametrize("is_allowed", [True, False])
def test_what_expires_between_the_two_final_reads_is_not_lost(is_allowed: bool) -> None:
    story = Story()
    story.send(0, b"1", timestamps=(50,))
    story.send(1, b"2", timestamps=(150,))
    story.poll(0, (0, b"1"), (1, b"2"), is_final=True, log_start=0)
    story.poll(1, (1, b"2"), is_final=True, is_committed=True, log_start=1)
    rules = Rules(expired_before_ms={"t": 100 if is_allowed else 50})
    assert kinds(story, rules) == ([] if is_allowed else [AnomalyKind.EARLY_REMOVAL])


def test_damage_excuses_no_wrong_value() -> None:
    story = Story()
    story.send(0, b"1")
    story.final((0, b"2"))
    assert AnomalyKind.INCONSISTENT_OFFSET in kinds(story, Rules(damaged=frozenset({("t", 0)})))


def test_histories_of_several_processes_are_joined() -> None:
    now = iter(range(100))
    writer, reader = Story(lambda: next(now)), Story(lambda: next(now))
    writer.send(0, b"\xff1", timestamps=(5,), keys=(b"k",))
    reader.final((0, b"\xff1"))
    joined = History.load([*reader.lines(), *writer.lines()])
    assert [type(operation) for operation in joined.operations] == [Send, Poll, Poll]
    assert list(joined.lines()) == [*writer.lines(), *reader.lines()]
    assert check(joined) == []


def test_a_line_that_is_not_an_operation_is_named() -> None:
    with pytest.raises(ValueError, match="not an operation"):
        History.load(['{"kind": "Guess"}'])


def test_a_commit_that_was_not_answered_may_come_late() -> None:
    """Then the group continues from it, and no member has done anything wrong."""
    story = Story()
    story.send(0, b"1", b"2", b"3")
    story.commit(1, UNKNOWN)
    story.commit(3)
    story.fetch(1)
    story.commit(2)
    story.final((0, b"1"), (1, b"2"), (2, b"3"))
    assert kinds(story, Rules(exclusive_groups=frozenset({"g"}))) == []
