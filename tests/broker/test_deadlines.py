"""Which connections are closed when time or memory runs out: deadlines alone, with connections that do nothing and a clock set by hand."""

from types import SimpleNamespace
from typing import Any

import pytest

from headwater.broker.configs.settings import Settings
from headwater.broker.connection_limits import ConnectionLimits
from headwater.broker.memory_budgets import AnswerBudget, RequestBudget
from headwater.broker.shell.deadlines import (
    ANSWER_PRESSURE_S,
    CLOSING_S,
    DISPENSABLE_IDLE_S,
    REQUEST_PRESSURE_S,
    SEARCH_S,
    Deadlines,
)

LIMIT_BYTES = 1000


class Loop:
    """A loop's clock, set by hand, and what it was asked to call."""

    def __init__(self) -> None:
        self.now_s = 1000.0
        self.calls: list[Any] = []

    def time(self) -> float:
        return self.now_s

    def call_soon(self, callback: Any) -> None:
        self.calls.append(callback)

    def call_later(self, delay_s: float, callback: Any) -> SimpleNamespace:
        return SimpleNamespace(cancel=lambda: None)

    def run_soon(self) -> None:
        calls, self.calls = self.calls, []
        for call in calls:
            call()


class Unread:
    """Answers that are not read."""

    def __init__(self, progress_s: float) -> None:
        self.written_bytes = self.unread_bytes = 0
        self.progress_s = progress_s

    def measure_progress(self, now_s: float) -> None:
        """There is none."""


class Client:
    """A connection that remembers what was done to it."""

    def __init__(self, now_s: float, *, is_unauthenticated: bool = False) -> None:
        self.address, self.listener_name = "127.0.0.1", "PLAINTEXT"
        self.accepted_s = self.last_active_s = now_s
        self.request_bytes = self.tail_bytes = self.answer_bytes = 0
        self.pauses: set[str] = set()
        self.slots: list[object] = []
        self.backlog = Unread(now_s)
        self.is_unauthenticated = is_unauthenticated
        self.resumed: list[str] = []
        self.ended: list[str] = []

    def resume(self, reason: str) -> None:
        self.resumed.append(reason)

    def fail(self, reason: str) -> None:
        self.ended.append(reason)

    def give_up(self, reason: str) -> None:
        self.ended.append(reason)

    def abort(self) -> None:
        self.ended.append("aborted")


class Server:
    """What deadlines need of a server."""

    def __init__(self) -> None:
        self.loop: Any = Loop()
        self.settings = Settings.from_pairs(
            {"headwater.authentication.timeout.ms": "5000", "headwater.progress.timeout.ms": "20000"}
        )
        self.clients: set[Client] = set()
        self.requests = RequestBudget(LIMIT_BYTES)
        self.answers: AnswerBudget[Client] = AnswerBudget(LIMIT_BYTES)
        self.limits: ConnectionLimits[Client] = ConnectionLimits(lambda: self.settings, 100, lambda now_s: None)
        self.deadlines: Deadlines[Client] = Deadlines(self)

    def connect(self, *, is_unauthenticated: bool = False) -> Client:
        client = Client(self.loop.time(), is_unauthenticated=is_unauthenticated)
        self.limits.admit(client)
        self.clients.add(client)
        return client

    def choke(self, client: Client, size: int) -> None:
        self.answers.choked[client] = client.backlog.progress_s = self.loop.time()
        client.backlog.written_bytes = client.backlog.unread_bytes = client.answer_bytes = size
        self.answers.used_bytes += size

    def check_after(self, seconds: float) -> None:
        self.loop.now_s += seconds
        self.deadlines.check()


@pytest.fixture
def server() -> Server:
    return Server()


def test_a_client_that_does_not_log_in_is_closed_and_one_that_need_not_stays(server: Server) -> None:
    stranger, guest = server.connect(is_unauthenticated=True), server.connect()
    server.check_after(4.9)
    assert stranger.ended == []
    server.check_after(0.2)
    assert "no login within 5000 ms" in stranger.ended[0]
    assert guest.ended == []


def test_the_rest_of_a_frame_has_to_arrive_unless_the_broker_does_not_read(server: Server) -> None:
    slow, unread = server.connect(), server.connect()
    for client in (slow, unread):
        server.deadlines.partial[client] = server.loop.time()
    unread.pauses.add("write")
    server.check_after(20.1)
    assert "no more of a frame arrived for 20000 ms" in slow.ended[0]
    assert unread.ended == []


def test_a_connection_that_was_closed_and_does_not_end_is_broken(server: Server) -> None:
    client = server.connect()
    server.deadlines.closing[client] = server.loop.time()
    server.check_after(CLOSING_S - 0.1)
    assert client.ended == []
    server.check_after(0.2)
    assert client.ended == ["aborted"]


def test_memory_goes_to_the_first_that_waits_and_no_other_overtakes_it(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = server.connect(), server.connect()
    server.requests.used_bytes = LIMIT_BYTES
    for client in (first, second):
        server.deadlines.wait_for_memory(client)
    assert server.deadlines.is_memory_short
    server.requests.used_bytes = 0
    with monkeypatch.context() as patch:  # for the first there is not enough yet
        patch.setattr(first, "resume", lambda reason: server.deadlines.hungry.append(first))
        server.deadlines.feed_hungry()
        server.deadlines.feed_hungry()
        server.loop.run_soon()
    assert list(server.deadlines.hungry) == [first, second]
    assert second.resumed == []
    server.deadlines.feed_hungry()
    server.loop.run_soon()
    assert (first.resumed, second.resumed) == (["memory"], ["memory"])
    assert not server.deadlines.is_memory_short


def test_while_memory_is_short_the_slowest_sender_goes(server: Server) -> None:
    waiting, slow, quick = server.connect(), server.connect(), server.connect()
    server.requests.used_bytes = LIMIT_BYTES
    server.deadlines.wait_for_memory(waiting)
    server.deadlines.partial[slow] = server.loop.time()
    server.loop.now_s += REQUEST_PRESSURE_S
    server.deadlines.partial[quick] = server.loop.time()
    for client in (slow, quick):
        client.last_active_s = server.loop.time()
    server.check_after(0.1)
    assert "held memory for too long" in slow.ended[0]
    assert quick.ended == waiting.ended == []


def test_without_senders_whatever_holds_most_memory_goes(server: Server) -> None:
    waiting, small, large = server.connect(), server.connect(), server.connect()
    small.request_bytes, large.request_bytes = 100, 900
    server.requests.used_bytes = LIMIT_BYTES
    server.deadlines.wait_for_memory(waiting)
    server.check_after(REQUEST_PRESSURE_S)
    assert len(large.ended) == 1
    assert small.ended == waiting.ended == []


def test_answers_beyond_their_budget_cost_the_client_that_has_not_read_for_longest(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second, largest = server.connect(), server.connect(), server.connect()
    server.choke(first, 400)
    server.choke(second, 700)
    server.choke(largest, 800)  # more than half of the budget: it stays, and the others have the budget

    def give_up(reason: str) -> None:
        first.ended.append(reason)
        server.answers.used_bytes -= first.answer_bytes
        server.answers.choked.pop(first)
        first.answer_bytes = 0

    monkeypatch.setattr(first, "give_up", give_up)
    server.deadlines.shed_answers()
    assert "memory for answers was used up" in first.ended[0]
    assert second.ended == largest.ended == []


def test_a_slow_reader_is_closed_early_only_while_memory_for_answers_is_short(server: Server) -> None:
    slow = server.connect()
    server.choke(slow, LIMIT_BYTES // 4)
    server.check_after(ANSWER_PRESSURE_S + 0.1)
    assert slow.ended == []
    server.answers.used_bytes += 1
    server.deadlines.check()
    assert "read slowly while memory for answers was short" in slow.ended[0]


def test_a_connection_that_is_idle_and_awaits_nothing_may_lose_its_place(server: Server) -> None:
    idle, awaiting, busy = server.connect(), server.connect(), server.connect()
    awaiting.slots.append(object())
    awaiting.last_active_s -= 1
    server.loop.now_s += DISPENSABLE_IDLE_S
    busy.last_active_s = server.loop.time()
    assert server.deadlines.find_dispensable(server.loop.time()) is idle
    assert (
        server.deadlines.find_dispensable(server.loop.time() + SEARCH_S / 2) is None
    )  # a search is not repeated at once
