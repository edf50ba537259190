"""What clients have not read leaves a little per turn of the loop, so that nobody waits while it is copied."""

from collections import deque
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

from headwater.broker.memory_budgets import TURN_BYTES_MAX, AnswerBudget, TurnBudget
from headwater.broker.shell.backlog import Backlog

ANSWER_BYTES = 6 << 20
CLIENTS = 20


class Loop:
    """Turns of an event loop, run by hand."""

    def __init__(self) -> None:
        self.callbacks: deque[Callable[[], None]] = deque()

    def call_soon(self, callback: Callable[[], None]) -> None:
        self.callbacks.append(callback)

    def time(self) -> float:
        return 0.0

    def run_turn(self) -> None:
        for _ in range(len(self.callbacks)):
            self.callbacks.popleft()()


class Reader:
    """A client and its transport, which is full at first."""

    def __init__(self, server: Any) -> None:
        self.closing, self.received_bytes, self.resumed = False, 0, False
        self.backlog = Backlog(self, server)
        self.backlog.transport = cast("Any", self)
        self.backlog.is_full = True
        self.backlog.send([bytes(ANSWER_BYTES)], ANSWER_BYTES)

    def writelines(self, buffers: list[bytes]) -> None:
        self.received_bytes += sum(map(len, buffers))

    def pause(self, reason: str) -> None:
        assert reason == "write"

    def resume(self, reason: str) -> None:
        assert reason == "write"
        self.resumed = True


def test_clients_that_all_read_again_are_served_over_several_turns() -> None:
    loop = Loop()
    answers: AnswerBudget[Any] = AnswerBudget(1 << 30)
    server = SimpleNamespace(
        loop=loop,
        turn_answers=TurnBudget(loop.call_soon, lambda: False),
        answers=answers,
        deadlines=SimpleNamespace(arm=lambda: None),
    )
    server.count_answers = lambda size: setattr(answers, "used_bytes", answers.used_bytes + size)
    readers = [Reader(server) for _ in range(CLIENTS)]
    assert answers.used_bytes == CLIENTS * ANSWER_BYTES
    for reader in readers:
        reader.backlog.room_again()
    received = 0
    assert not all(reader.resumed for reader in readers)
    while not all(reader.resumed for reader in readers):
        before, received = received, sum(reader.received_bytes for reader in readers)
        assert 0 < received - before <= TURN_BYTES_MAX + ANSWER_BYTES
        loop.run_turn()
    assert all(reader.received_bytes == ANSWER_BYTES for reader in readers)
    assert answers.used_bytes == 0
    assert not answers.choked


def test_a_client_that_has_gone_is_given_nothing_in_the_next_turn() -> None:
    loop = Loop()
    answers: AnswerBudget[Any] = AnswerBudget(1 << 30)
    server = SimpleNamespace(loop=loop, turn_answers=TurnBudget(loop.call_soon, lambda: False), answers=answers)
    server.deadlines = SimpleNamespace(arm=lambda: None)
    server.count_answers = lambda size: setattr(answers, "used_bytes", answers.used_bytes + size)
    reader = Reader(server)
    server.turn_answers.spend(TURN_BYTES_MAX + 1)
    reader.backlog.room_again()
    reader.backlog.clear()
    loop.run_turn()
    assert (reader.received_bytes, reader.resumed, answers.used_bytes) == (0, False, 0)
