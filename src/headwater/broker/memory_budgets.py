"""Bytes of requests and of answers in flight, over all connections.

Requests. A large frame reserves memory as it arrives, and so does a request that waits for its answer.
`queued.max.request.bytes` bounds the sum. When nothing is left, reading from connections pauses until there is room. The
connections whose frames have been incomplete for long are closed, the oldest first. Strangers have a small budget of their
own (CVE-2022-34917).

Answers. What a client does not read stays in memory. Its connection is *choked* from the moment when the system's buffers
are full until everything is sent, and what it holds counts against `headwater.queued.max.answer.bytes`. A Fetch may use an
eighth of what is left: so the first slow readers are served generously, and no number of them exhausts the budget. Newcomers
can use only the first half; the rest is for consumers that have been served before. A connection's first answer has at most
a mebibyte, and each later one at most twice the largest so far: a client that reads soon gets all that it asks for, and one
that does not read has cost little.

One turn. Copying answers into sockets takes time as well. If a thousand clients ask at once, a turn of the loop copies
`TURN_BYTES_MAX`, and the answers after that are small, so that other requests do not wait for them.
"""

from collections.abc import Callable
from typing import Generic, TypeVar

STRANGER_BYTES_MAX = 16 << 20
OVERDRAFT = 1.25  # how far requests that have already arrived may exceed the budget
ANSWER_PART = 8
ANSWER_BYTES_MIN = 64 * 1024
FIRST_ANSWER_BYTES_MAX = 1 << 20
READY_BYTES_MAX = 1 << 20  # per connection, for answers that wait for an earlier one
JOURNAL_WAITING_BYTES_MAX = 64 << 20
TURN_BYTES_MAX = 4 << 20
CROWDED_TURN_BYTES_MAX = 1 << 20  # while connections wait for their turn

Client = TypeVar("Client")


class RequestBudget:
    """Memory for requests that have not been answered. `limit_bytes` is for clients; strangers have their own."""

    def __init__(self, limit_bytes: int, stranger_limit_bytes: int = STRANGER_BYTES_MAX) -> None:
        self.limit_bytes = limit_bytes
        self.stranger_limit_bytes = stranger_limit_bytes
        self.used_bytes = 0
        self.stranger_bytes = 0

    def has_room(self, size: int) -> bool:
        return self.used_bytes + size <= self.limit_bytes

    def has_overdraft(self, size: int) -> bool:
        return self.used_bytes + size <= self.limit_bytes * OVERDRAFT

    def is_ample_for(self, size: int) -> bool:
        """Whether half of it would still be free after that."""
        return 2 * (self.used_bytes + size) <= self.limit_bytes

    @property
    def are_strangers_over(self) -> bool:
        return self.stranger_bytes > self.stranger_limit_bytes


class TurnBudget:
    """How much is copied into sockets in one turn of the loop. `call_soon` calls back in the next turn."""

    def __init__(self, call_soon: Callable[[Callable[[], None]], object], is_crowded: Callable[[], bool]) -> None:
        self.call_soon = call_soon
        self.is_crowded = is_crowded
        self.spent_bytes = 0

    def room(self) -> int:
        """How large the next answer of this turn may be."""
        return max(ANSWER_BYTES_MIN, self.limit_bytes - self.spent_bytes)

    @property
    def limit_bytes(self) -> int:
        return CROWDED_TURN_BYTES_MAX if self.is_crowded() else TURN_BYTES_MAX

    @property
    def is_spent(self) -> bool:
        """Whether a connection that has more requests gives way to the others."""
        return self.spent_bytes > 0 and self.spent_bytes >= self.limit_bytes

    def spend(self, size: int) -> None:
        if not self.spent_bytes:
            self.call_soon(self.begin)
        self.spent_bytes += size

    def begin(self) -> None:
        """The next turn."""
        self.spent_bytes = 0


class AnswerBudget(Generic[Client]):
    """Memory for answers that clients have not read."""

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self.used_bytes = 0
        self.choked: dict[Client, float] = {}  # since when; the longest choked comes first

    @property
    def is_tight(self) -> bool:
        """Whether newcomers get little, and slow readers have to make room."""
        return self.used_bytes > self.limit_bytes // 4

    def room(self, *, is_newcomer: bool) -> int:
        """How many bytes the next answer may have; 0 if it has to wait."""
        limit = self.limit_bytes // 2 if is_newcomer else self.limit_bytes
        part = (limit - self.used_bytes) // ANSWER_PART
        return part if part >= min(ANSWER_BYTES_MIN, self.limit_bytes // (2 * ANSWER_PART)) else 0

    def choked_before(self, moment_s: float) -> list[Client]:
        """The clients that have been choked since before that moment, the longest choked first."""
        found = []
        for client, since_s in self.choked.items():
            if since_s > moment_s:
                break
            found.append(client)
        return found
