"""The answers that one client has not read yet.

A large answer is passed to the transport in slices. When the system accepts no more, the connection is *choked*: nothing is
read from it until everything is sent, and what it holds counts on the budget for answers. The only sign that a client reads
is that the system has room again.
"""

import asyncio
from collections import deque
from typing import Generic, Protocol, TypeVar

from headwater.broker.memory_budgets import AnswerBudget, TurnBudget
from headwater.effects.buffers import Buffer

SLICE_BYTES = 1 << 20


class Reader(Protocol):
    """The connection of a backlog. While its client does not read, nothing is read from the connection either."""

    closing: bool

    def pause(self, reason: str) -> None: ...

    def resume(self, reason: str) -> None: ...


class Alarm(Protocol):
    """Checks the choked connections from time to time, once it is armed."""

    def arm(self) -> None: ...


AnyReader = TypeVar("AnyReader", bound=Reader)


class AnswerServer(Protocol[AnyReader]):
    """The server, as a backlog sees it: the loop, and the budget of all connections' answers."""

    loop: asyncio.AbstractEventLoop
    answers: AnswerBudget[AnyReader]
    turn_answers: TurnBudget

    @property
    def deadlines(self) -> Alarm: ...

    def count_answers(self, size: int) -> None: ...


class Backlog(Generic[AnyReader]):
    """The sending side of a connection. `transport` is set once the connection is open."""

    __slots__ = (
        "client",
        "first_sent",
        "is_choked",
        "is_full",
        "outgoing",
        "progress_s",
        "server",
        "transport",
        "unread_bytes",
        "written_bytes",
    )

    def __init__(self, client: AnyReader, server: AnswerServer[AnyReader]) -> None:
        self.client, self.server = client, server
        self.transport: asyncio.Transport | None = None
        self.outgoing: deque[Buffer] = deque()  # what the transport has not been given yet
        self.first_sent = 0  # the transport has this many bytes of the first
        self.written_bytes = 0  # on the budget
        self.is_choked = self.is_full = False  # answers are not read; the transport accepts no more
        self.unread_bytes = 0
        self.progress_s = 0.0

    def keep(self, buffers: list[Buffer], size: int) -> None:
        """Keeps an answer for later."""
        self.outgoing.extend(buffer for buffer in buffers if len(buffer))
        self.written_bytes += size
        self.server.count_answers(size)

    def send(self, buffers: list[Buffer], size: int) -> None:
        """Passes on as much of a large answer as the system accepts."""
        self.keep(buffers, size)
        self.feed()
        if self.outgoing or self.is_full:
            self.choke()
        else:
            self.release()

    def feed(self) -> int:
        """Passes slices to the transport until it is full. Returns the number of bytes."""
        fed_bytes = 0
        while self.outgoing and not self.is_full and self.transport is not None:
            buffers = self.next_slice()
            fed_bytes += sum(map(len, buffers))
            self.transport.writelines(buffers)
        return fed_bytes

    def next_slice(self) -> list[Buffer]:
        found: list[Buffer] = []
        room = SLICE_BYTES
        while self.outgoing and room:
            buffer, start = self.outgoing[0], self.first_sent
            end = min(len(buffer), start + room)
            found.append(buffer if end - start == len(buffer) else memoryview(buffer)[start:end])
            room -= end - start
            self.first_sent = end
            if end == len(buffer):
                self.outgoing.popleft()
                self.first_sent = 0
        return found

    def choke(self) -> None:
        """The client does not read as fast as it asks."""
        if self.is_choked or self.client.closing or self.transport is None:
            return
        self.is_choked = True
        server = self.server
        self.progress_s = server.loop.time()
        server.answers.choked[self.client] = self.progress_s
        if not self.written_bytes:
            self.written_bytes = self.transport.get_write_buffer_size()
            server.count_answers(self.written_bytes)
        self.unread_bytes = self.written_bytes
        server.deadlines.arm()
        self.client.pause("write")

    def room_again(self) -> None:
        """The system has sent what it had."""
        self.is_full = False
        if self.is_choked:
            self.progress_s = self.server.loop.time()
            self.proceed()

    def proceed(self) -> None:
        """Passes on the rest. If this turn of the loop has copied enough, for any client, that waits for the next turn."""
        turn, loop = self.server.turn_answers, self.server.loop
        if not self.is_choked or self.is_full:
            return
        if turn.is_spent:
            loop.call_soon(self.proceed)
            return
        if fed_bytes := self.feed():
            turn.spend(fed_bytes)
        if not self.outgoing and not self.is_full:
            self.release()
            self.client.resume("write")

    def measure_progress(self, now_s: float) -> None:
        """Call this regularly while the connection is choked."""
        unread = sum(map(len, self.outgoing)) - self.first_sent
        if self.transport is not None:
            unread += self.transport.get_write_buffer_size()
        if unread < self.unread_bytes:
            self.progress_s = now_s
        self.unread_bytes = unread

    def flush(self) -> None:
        """Passes everything on, because the connection is about to be closed."""
        if self.outgoing and self.transport is not None:
            while self.outgoing:
                self.transport.writelines(self.next_slice())

    def release(self) -> None:
        """Releases its part of the budget."""
        answers = self.server.answers
        answers.used_bytes -= self.written_bytes
        self.written_bytes = 0
        self.is_choked = False
        answers.choked.pop(self.client, None)

    def clear(self) -> None:
        self.outgoing.clear()
        self.first_sent = 0
        self.release()
