"""What clients knew when the power was cut."""

import pytest

from headwater.testing.simulate.checker import check
from headwater.testing.simulate.history import NEVER, Operation, Outcome, Poll, Send
from tests.power.clients import Fact, label_of, padded
from tests.power.cut_history import facts_until, until, wrong_topics


def send(began: int, ended: int) -> Send:
    made = Send(process="p", topic="t", partition=0, values=(b"%d" % began,), offset=0)
    made.began, made.ended, made.outcome = began, ended, Outcome.OK
    return made


@pytest.mark.parametrize(
    ("began", "ended", "outcome"),
    [(1, 9, Outcome.OK), (1, 10, Outcome.OK), (1, 11, Outcome.UNKNOWN), (10, 11, Outcome.UNKNOWN), (11, 12, None)],
)
def test_an_operation_and_a_cut_at_10(began: int, ended: int, outcome: Outcome | None) -> None:
    found = until([send(began, ended)], 10).operations
    assert [operation.outcome for operation in found] == ([outcome] if outcome is not None else [])
    if outcome is Outcome.UNKNOWN:
        assert found[0].ended == NEVER


def test_the_operations_of_the_life_stay_as_they_are_and_come_in_order() -> None:
    operations: list[Operation] = [send(5, 30), send(3, 30)]
    history = until(operations, 10)
    assert [operation.began for operation in history.operations] == [3, 5]
    assert [operation.outcome for operation in operations] == [Outcome.OK, Outcome.OK]


@pytest.mark.parametrize(("ended", "count"), [(9, 1), (11, 0)])
def test_what_was_acknowledged_before_the_cut_is_missed(ended: int, count: int) -> None:
    history = until([send(1, ended)], 10)
    final = history.begin(Poll(process="end", topic="t", partition=0, position=0, is_final=True))
    final.next_position = 0
    history.end(final, Outcome.OK)
    assert len(check(history)) == count


@pytest.mark.parametrize(
    ("exists", "ended", "is_there", "problem"),
    [
        (True, 9, False, ["the topic t is gone"]),
        (True, 9, True, []),
        (True, 11, False, []),
        (False, 9, True, ["the topic t is back"]),
        (False, 9, False, []),
        (False, 11, True, []),
    ],
)
def test_topics_that_were_created_or_deleted(exists: bool, ended: int, is_there: bool, problem: list[str]) -> None:
    facts = facts_until([Fact("t", exists, 1, ended), Fact("t", not exists, 11, 12)], 10)
    assert wrong_topics(facts, {"t"} if is_there else set()) == problem


def test_the_newest_fact_of_a_name_counts() -> None:
    assert wrong_topics([Fact("t", True, 1, 2), Fact("t", False, 3, 4)], {"t"}) == ["the topic t is back"]
    assert wrong_topics([Fact("t", False, 3, 4), Fact("t", True, 5, 6)], set()) == ["the topic t is gone"]


def test_a_value_that_was_damaged_is_noticed() -> None:
    value = padded(b"p1.0.7")
    assert label_of(value) == b"p1.0.7"
    assert len(value) > 20
    with pytest.raises(ValueError):
        label_of(value[:-1] + b"x")
