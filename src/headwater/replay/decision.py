"""Decide, append, replay: how state that must survive a crash is changed.

A *machine* is state in memory and the rules about it. Its state is what the records in its log say, and nothing else. So
a machine never changes that state by itself. It *decides*: it looks at a request and says which records would make the
change, and what the answer is. The records are *appended* to the log as one batch. Then each is *replayed*, by the method
that a restart uses too, and only that changes the state. The answer is given when the records are on disk.

For example, a machine that counts, with one record for each number of its counter:

    class Counters:
        def __init__(self) -> None:
            self.counts: dict[str, int] = {}

        def add(self, name: str, number: int) -> Decision[tuple[str, int], int]:
            total = self.counts.get(name, 0) + number
            return Decision([(name, total)], total)          # nothing has changed yet

        def replay(self, record: tuple[str, int]) -> None:
            name, total = record
            self.counts[name] = total

        def snapshot(self) -> Iterator[tuple[str, int]]:
            yield from self.counts.items()

    counters = Counters()
    runtime = Runtime(counters, log)
    runtime.carry_out("a", counters.add("a", 3))             # Deferred[int]: 3, when the record is on disk

What follows from it:

- A restart ends with the state that was there before, since it takes the same steps.
- An append that fails changes nothing: the machine is as if the request had never arrived.
- A machine needs no disk, no network and no broker, so a test constructs it alone.
- A log may be rewritten from a snapshot: replaying it makes the same state.

Between the append and the sync, the state is ahead of the disk. A power cut then takes the change back. So an answer that
depends on it must wait for that sync or for a later one. An answer that has records of its own waits by itself, since the
journal's syncs are in order. A plain read does not: where its answer must not be taken back, use
`Runtime.answer_when_durable`. For example, a client that reads a committed offset must not see an older one later.

State that need not survive (timers, parked answers, members that wait for others) is changed in place, by the machine,
at any time. Source: Kafka's CoordinatorResult and CoordinatorRuntime, which have the same parts.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Generic, NamedTuple, Protocol, TypeVar

from headwater.replay.deferred import Deferred
from headwater.replay.sync_number import SyncNumber

Record = TypeVar("Record")
Input = TypeVar("Input", contravariant=True)
Answer = TypeVar("Answer")


def everything(key: str) -> bool:
    """A snapshot of all keys: what a caller gets that does not select some."""
    return True


class RecordTooLargeError(OSError):
    """The records of one decision are larger than the log accepts; the message names the log and its limit."""


class Decision(NamedTuple, Generic[Record, Answer]):
    """The records that a request writes, and its answer. Without records the answer is given at once."""

    records: Sequence[Record]
    answer: Answer


class Machine(Protocol[Record]):
    """State that is made by replaying records."""

    def replay(self, record: Record) -> None:
        """Changes the state as the record says. Raises ProtocolError for a record that cannot be read."""
        ...

    def snapshot(self) -> Iterable[Record]:
        """Records that make this state when an empty machine replays them."""
        ...


class StateLog(Protocol[Input]):
    """Where a machine's records go."""

    def append(self, key: str, records: Sequence[Input]) -> SyncNumber:
        """Appends records as one batch to the log that keeps `key`; returns the sync that makes them durable.

        Raises OSError, and RecordTooLargeError for records that no retry can append; then nothing was appended.
        """
        ...

    def when_durable(self, sync: SyncNumber, callback: Callable[[], None]) -> None:
        """Calls back when that sync is done; at once if it already is."""
        ...


class Runtime(Generic[Record]):
    """A machine and its log: the one place where decisions are carried out."""

    def __init__(self, machine: Machine[Record], log: StateLog[Record]) -> None:
        self.machine = machine
        self.log = log
        self.when_durable = log.when_durable

    def apply(self, key: str, records: Sequence[Record]) -> SyncNumber:
        """Appends and replays; returns the sync that makes it durable. Raises OSError; then nothing has changed."""
        sync = self.log.append(key, records)
        for record in records:
            self.machine.replay(record)
        return sync

    def carry_out(self, key: str, decision: Decision[Record, Answer]) -> Answer | Deferred[Answer]:
        """Applies what was decided, and answers when it is on disk. Raises OSError; then nothing has changed."""
        if not decision.records:
            return decision.answer
        return self.answer_when_durable(self.apply(key, decision.records), decision.answer)

    def answer_when_durable(self, sync: SyncNumber, answer: Answer) -> Answer | Deferred[Answer]:
        """An answer that is given when that sync is done; at once if it already is."""
        deferred: Deferred[Answer] = Deferred()
        self.when_durable(sync, lambda: deferred.complete(answer))
        return answer if deferred.done else deferred
