"""Budgets of bytes: what a newcomer may have, and that no number of slow readers uses up everything."""

from collections.abc import Callable

from headwater.broker.memory_budgets import (
    ANSWER_BYTES_MIN,
    CROWDED_TURN_BYTES_MAX,
    TURN_BYTES_MAX,
    AnswerBudget,
    RequestBudget,
    TurnBudget,
)


def test_no_number_of_slow_readers_exhausts_the_budget() -> None:
    budget: AnswerBudget[int] = AnswerBudget(128 << 20)
    assert budget.room(is_newcomer=True) == 8 << 20
    for _ in range(10_000):
        budget.used_bytes += budget.room(is_newcomer=True)
    assert budget.used_bytes <= 64 << 20
    assert budget.room(is_newcomer=True) == 0
    assert budget.room(is_newcomer=False) >= 8 << 20


def test_the_longest_choked_come_first() -> None:
    budget: AnswerBudget[str] = AnswerBudget(1 << 20)
    budget.choked = {"a": 1.0, "b": 2.0, "c": 9.0}
    assert budget.choked_before(5.0) == ["a", "b"]


def test_room_for_requests() -> None:
    budget = RequestBudget(1000, stranger_limit_bytes=10)
    assert budget.is_ample_for(500)
    assert not budget.is_ample_for(501)
    budget.used_bytes = 900
    assert budget.has_room(100)
    assert not budget.has_room(101)
    assert budget.has_overdraft(350)
    assert not budget.has_overdraft(351)
    budget.stranger_bytes = 11
    assert budget.are_strangers_over


def test_a_turn_copies_so_much_and_then_small_answers_only() -> None:
    callbacks: list[Callable[[], None]] = []
    waiting: list[str] = []
    turn = TurnBudget(callbacks.append, lambda: bool(waiting))
    assert turn.room() == TURN_BYTES_MAX
    turn.spend(TURN_BYTES_MAX - 1)
    assert not turn.is_spent
    turn.spend(1)
    assert (turn.room(), turn.is_spent) == (ANSWER_BYTES_MIN, True)
    (next_turn,) = callbacks
    next_turn()
    assert turn.room() == TURN_BYTES_MAX
    waiting.append("a connection")
    assert (turn.room(), turn.is_spent) == (CROWDED_TURN_BYTES_MAX, False)
    turn.spend(CROWDED_TURN_BYTES_MAX)
    assert turn.is_spent
