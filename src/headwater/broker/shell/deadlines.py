"""Deadlines of clients: for logging in, sending the rest of a frame, reading answers, and closing.

There is one timer, which only runs while a deadline is pending. When memory is short, the deadlines are shorter: the
connections that have held memory longest without finishing are closed first.
"""

import asyncio
from collections import deque
from collections.abc import Collection, Set
from typing import Generic, Protocol, TypeVar

from headwater.broker.configs.settings import Settings
from headwater.broker.connection_limits import ConnectionLimits, Place
from headwater.broker.memory_budgets import AnswerBudget, RequestBudget

CHECK_S = 0.5
CLOSING_S = 5.0
ANSWER_PRESSURE_S = 5.0
ANSWER_PRESSURE_BYTES_PER_S = 64 * 1024
REQUEST_PRESSURE_S = 10.0
DISPENSABLE_IDLE_S = 60.0
SEARCH_S = 0.1  # a search visits all connections


class Unread(Protocol):
    """The answers that a client has not read (`backlog.Backlog`)."""

    written_bytes: int
    unread_bytes: int
    progress_s: float

    def measure_progress(self, now_s: float) -> None: ...


class TimedClient(Place, Protocol):
    """A connection, as the deadlines see and use it."""

    last_active_s: float
    request_bytes: int
    tail_bytes: int
    pauses: set[str]

    @property
    def slots(self) -> Collection[object]: ...

    @property
    def backlog(self) -> Unread: ...

    @property
    def answer_bytes(self) -> int: ...

    @property
    def is_unauthenticated(self) -> bool: ...

    def resume(self, reason: str) -> None: ...

    def fail(self, reason: str) -> None: ...

    def give_up(self, reason: str) -> None: ...

    def abort(self) -> None: ...


AnyClient = TypeVar("AnyClient", bound=TimedClient)


class TimedServer(Protocol[AnyClient]):
    """The server, as the deadlines see it: the loop, its connections, and the budgets."""

    loop: asyncio.AbstractEventLoop
    limits: ConnectionLimits[AnyClient]
    requests: RequestBudget
    answers: AnswerBudget[AnyClient]

    @property
    def clients(self) -> Set[AnyClient]: ...

    @property
    def settings(self) -> Settings: ...


class Deadlines(Generic[AnyClient]):
    """`partial`: connections with a part of a frame; `closing`: those whose last answer is on its way; `hungry`: those
    for whose requests there was no memory; each since when.
    """

    def __init__(self, server: TimedServer[AnyClient]) -> None:
        self.server = server
        self.timer: asyncio.TimerHandle | None = None
        self.partial: dict[AnyClient, float] = {}
        self.closing: dict[AnyClient, float] = {}
        self.hungry: deque[AnyClient] = deque()
        self.hungry_since_s: float | None = None
        self.is_feeding = False
        self.searched_s = 0.0

    def arm(self) -> None:
        """Call this when something may have become due."""
        if self.timer is None:
            self.timer = self.server.loop.call_later(CHECK_S, self.check)

    def stop(self) -> None:
        if self.timer is not None:
            self.timer.cancel()

    def forget(self, client: AnyClient) -> None:
        self.partial.pop(client, None)
        self.closing.pop(client, None)

    def check(self) -> None:
        self.timer = None
        server, now_s = self.server, self.server.loop.time()
        self.check_logins(now_s)
        self.check_frames(now_s)
        self.check_memory(now_s)
        self.check_answers(now_s)
        for client in [c for c, since_s in self.closing.items() if now_s - since_s >= CLOSING_S]:
            client.abort()
        if server.limits.strangers or self.partial or self.closing or self.hungry or server.answers.choked:
            self.arm()

    def check_logins(self, now_s: float) -> None:
        timeout_ms = self.server.settings.headwater_authentication_timeout_ms
        before_s = now_s - timeout_ms / 1000
        for client in list(self.server.limits.strangers):
            if client.accepted_s > before_s:
                break
            if client.is_unauthenticated:
                client.fail(f"no login within {timeout_ms} ms (headwater.authentication.timeout.ms)")

    def check_frames(self, now_s: float) -> None:
        timeout_ms = self.server.settings.headwater_progress_timeout_ms
        before_s = now_s - timeout_ms / 1000
        for client in [c for c in self.partial if c.last_active_s < before_s and not c.pauses]:
            client.fail(f"no more of a frame arrived for {timeout_ms} ms (headwater.progress.timeout.ms)")

    # -- memory for requests

    def wait_for_memory(self, client: AnyClient) -> None:
        if self.hungry_since_s is None:
            self.hungry_since_s = self.server.loop.time()
        self.hungry.append(client)
        self.arm()

    @property
    def is_memory_short(self) -> bool:
        return self.hungry_since_s is not None

    def feed_hungry(self) -> None:
        """Call this when memory has become free: clients that wait for it try again."""
        if not self.is_feeding:
            self.is_feeding = True
            self.server.loop.call_soon(self.feed)

    def feed(self) -> None:
        self.is_feeding = False
        for _ in range(len(self.hungry)):
            if not self.server.requests.has_room(1):
                break
            client = self.hungry.popleft()
            client.resume("memory")
            if self.hungry and self.hungry[-1] is client:  # still not enough for its frame; nobody may overtake it
                self.hungry.rotate(1)
                break
            if client in self.partial and not client.pauses:  # nothing was read from it, so the delay was not its own
                self.partial[client] = self.server.loop.time()
        if not self.hungry:
            self.hungry_since_s = None

    def check_memory(self, now_s: float) -> None:
        """While some clients wait for memory, closes one that holds it: the slowest sender, or the one that holds most."""
        if not self.hungry or self.hungry_since_s is None:
            return
        before_s = now_s - REQUEST_PRESSURE_S
        senders = [(s, c) for c, s in self.partial.items() if not c.pauses]
        since_s, client = min(senders, key=lambda sender: sender[0], default=(now_s, None))
        if since_s > before_s:
            client = None
            if now_s - self.hungry_since_s >= (2 if senders else 1) * REQUEST_PRESSURE_S:
                client = self.find_holder(before_s)
        if client is not None:
            client.fail("its requests held memory for too long while others waited for it (queued.max.request.bytes)")
        self.feed_hungry()

    def find_holder(self, before_s: float) -> AnyClient | None:
        """The client that has reserved most, for longest. Clients that have reserved nothing come last."""
        old = (c for c in self.server.clients if self.partial.get(c, 0.0) <= before_s)
        return max(old, key=lambda c: (c.request_bytes, c.tail_bytes, -self.partial.get(c, 0.0)), default=None)

    def shed_strangers(self) -> None:
        """Strangers hold more than their budget: closes the oldest."""
        for client in list(self.partial):
            if not self.server.requests.are_strangers_over:
                return
            if client.is_unauthenticated:
                client.fail("requests of clients that have not logged in hold too much memory")

    # -- places

    def find_dispensable(self, now_s: float) -> AnyClient | None:
        """A client that may lose its place when all are taken: it does not read, or it is idle and awaits nothing."""
        choked = next(iter(self.server.answers.choked_before(now_s - ANSWER_PRESSURE_S)), None)
        if choked is not None or now_s < self.searched_s + SEARCH_S:
            return choked
        self.searched_s = now_s
        idle = (c for c in self.server.clients if c.last_active_s <= now_s - DISPENSABLE_IDLE_S and not c.slots)
        return min(idle, key=lambda client: client.last_active_s, default=None)

    # -- memory for answers

    def check_answers(self, now_s: float) -> None:
        answers = self.server.answers
        timeout_ms = self.server.settings.headwater_progress_timeout_ms
        for client in list(answers.choked):
            client.backlog.measure_progress(now_s)
            if now_s - client.backlog.progress_s >= timeout_ms / 1000:
                client.give_up(f"it read nothing for {timeout_ms} ms (headwater.progress.timeout.ms)")
        if answers.is_tight:
            for client in answers.choked_before(now_s - ANSWER_PRESSURE_S):
                read_at_least = (now_s - answers.choked[client]) * ANSWER_PRESSURE_BYTES_PER_S
                if client.backlog.written_bytes - client.backlog.unread_bytes < read_at_least and answers.is_tight:
                    client.give_up(
                        "it read slowly while memory for answers was short (headwater.queued.max.answer.bytes)"
                    )

    def shed_answers(self) -> None:
        """Answers hold more than their budget: closes the clients that have not read for longest, then those that asked for most.

        A batch cannot be cut, so a batch of more than half the budget may exceed it. Its client stays, and the others have
        the budget. There is one such client at a time.
        """
        answers = self.server.answers
        reason = "it did not read while memory for answers was used up (headwater.queued.max.answer.bytes)"
        largest = max(self.server.clients, key=lambda client: client.answer_bytes, default=None)
        if largest is not None and 2 * largest.answer_bytes <= answers.limit_bytes:
            largest = None
        spared_bytes = largest.answer_bytes if largest is not None else 0
        while answers.used_bytes - spared_bytes > answers.limit_bytes:
            client = next((each for each in answers.choked if each is not largest), None)
            if client is None:
                others = (each for each in self.server.clients if each is not largest)
                client = max(others, key=lambda each: each.answer_bytes, default=None)
            if client is None or not client.answer_bytes:
                return
            client.give_up(reason)
