"""What clients did and saw: the history that the checker judges.

Theory. A client cannot see inside the broker. It sees that it began an operation, and that the operation ended in one of
three ways, which Jepsen calls ok, fail and info:

    OK        the broker answered that the operation is done
    FAILED    the operation certainly did not happen, and never will
    UNKNOWN   no answer, or an inconclusive one: the operation may have happened, or may still happen at any later time

A request that is sent and never answered is UNKNOWN, even if the client repeats it: one operation lasts until the client
gives up or has an answer. It is FAILED only if every attempt was refused.

`began` and `ended` order the operations. With the default clock they count events, which is exact if one thread records
everything. If several processes on one machine record, each uses `time.monotonic_ns` as its clock, and `History.load` joins
their histories. Operation A happened before B only if A ended before B began. An operation without an answer never ended.

Topics. A topic can be deleted and created again with the same name, and the new one has none of the old one's records. So
`topic` names one life of a topic, for example `orders#2`. The checker never interprets the name.

Values are labels. Each is unique to one `Send`, and the checker finds a record's origin by it. A copy of a record in another
topic (consume, transform, produce) may be sent again with the same label after an abort: then each attempt is a `Send`.
"""

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, fields
from enum import StrEnum
from itertools import count
from typing import Any, ClassVar, TypeVar

NEVER = 2**63
NO_OFFSET = -1


class Outcome(StrEnum):
    """How an operation ended, as its client knows it."""

    OK = "ok"
    FAILED = "fail"
    UNKNOWN = "info"


@dataclass(slots=True, kw_only=True, eq=False)
class Operation:
    """Something that a client asked for. `process` names the client; a process does one thing at a time, or pipelines."""

    process: str
    began: int = NO_OFFSET
    ended: int = NEVER
    outcome: Outcome = Outcome.UNKNOWN
    error: str = ""  # the broker's error, for human readers


@dataclass(slots=True, kw_only=True, eq=False)
class Send(Operation):
    """Records for one partition, in one batch.

    `producer` is set for idempotent and transactional producers: the records that one of them sends to a partition must be
    in the log once, and in this order. `transaction` names the transaction, uniquely over all producers. `offset` is the
    first record's offset, if the answer has it.
    """

    topic: str
    partition: int
    values: tuple[bytes, ...]
    keys: tuple[bytes, ...] = ()  # of compacted topics
    timestamps: tuple[int, ...] = ()
    producer: str = ""
    transaction: str = ""
    is_durable: bool = True  # acks=all: acknowledged means on disk
    offset: int | None = None


@dataclass(slots=True, kw_only=True, eq=False)
class Poll(Operation):
    """The records that a consumer got from one partition: all that are visible to it from `position` up to `next_position`.

    `is_committed`: the consumer reads committed records only, and `records` has only those that it hands to its
    application. `is_final`: the whole partition was read, after every client was done and the broker had recovered. Each
    partition that was sent to needs a final poll of each kind.
    """

    topic: str
    partition: int
    position: int
    is_committed: bool = False
    is_final: bool = False
    group: str = ""  # the consumer group whose progress this is
    records: tuple[tuple[int, bytes], ...] = ()
    next_position: int = NO_OFFSET
    log_start: int = NO_OFFSET  # the broker's log start offset, if the answer has it


@dataclass(slots=True, kw_only=True, eq=False)
class EndTransaction(Operation):
    """A commit or an abort. A transaction without either was left open by its producer, so the broker must abort it."""

    transaction: str
    commit: bool


@dataclass(slots=True, kw_only=True, eq=False)
class CommitOffset(Operation):
    """A group's progress in one partition. In a transaction it takes effect when the transaction is committed."""

    group: str
    topic: str
    partition: int
    offset: int
    transaction: str = ""


@dataclass(slots=True, kw_only=True, eq=False)
class FetchOffset(Operation):
    """A group's committed offset, as answered; NO_OFFSET if it has none. `is_stable`: the request waits for open transactions."""

    group: str
    topic: str
    partition: int
    offset: int = NO_OFFSET
    is_stable: bool = True


@dataclass(slots=True, kw_only=True, eq=False)
class DeleteRecords(Operation):
    """The removal of all records below `before`. `low_watermark` is the log's start afterwards."""

    topic: str
    partition: int
    before: int
    low_watermark: int = NO_OFFSET


@dataclass(slots=True, kw_only=True, eq=False)
class DeleteTopic(Operation):
    """The removal of a topic."""

    topic: str


@dataclass(slots=True, kw_only=True, eq=False)
class LookUp(Operation):
    """The first record at or after a time: its offset and timestamp, or NO_OFFSET for both."""

    topic: str
    partition: int
    timestamp: int
    offset: int = NO_OFFSET
    found_timestamp: int = NO_OFFSET


OperationType = TypeVar("OperationType", bound=Operation)
KINDS: dict[str, type[Operation]] = {
    kind.__name__: kind
    for kind in (Send, Poll, EndTransaction, CommitOffset, FetchOffset, DeleteRecords, DeleteTopic, LookUp)
}


class History:
    """Operations in the order in which they began."""

    LABELS: ClassVar[str] = "latin-1"

    def __init__(self, clock: Callable[[], int] | None = None) -> None:
        self.clock = clock or count().__next__
        self.operations: list[Operation] = []

    def begin(self, operation: OperationType) -> OperationType:
        """Call this before the first byte of the request is sent."""
        operation.began = self.clock()
        self.operations.append(operation)
        return operation

    def end(self, operation: Operation, outcome: Outcome, error: str = "") -> None:
        """Call this after the answer has arrived. Before that, copy the answer's content (offset, records) to the operation."""
        operation.outcome, operation.error = outcome, error
        if outcome is not Outcome.UNKNOWN:
            operation.ended = self.clock()

    def of(self, kind: type[OperationType]) -> Iterator[OperationType]:
        """All operations of a kind."""
        return (operation for operation in self.operations if type(operation) is kind)

    def lines(self) -> Iterator[str]:
        """One JSON object per operation."""
        for operation in self.operations:
            named = {field.name: plain(getattr(operation, field.name)) for field in fields(operation)}
            yield json.dumps({"kind": type(operation).__name__, **named}, separators=(",", ":"))

    @classmethod
    def load(cls, lines: Iterable[str]) -> "History":
        """The history that `lines` wrote; for several processes, one after the other. Raises ValueError.

        If the writer was killed, its last line may be incomplete, which is an error. Omit that line only if you know this.
        """
        history = cls()
        for line in lines:
            content = json.loads(line)
            kind = KINDS.get(content.pop("kind", None))
            if kind is None:
                raise ValueError(f"not an operation: {line[:80]!r}")
            history.operations.append(operation_of(kind, content))
        history.operations.sort(key=lambda operation: operation.began)
        return history


def plain(value: Any) -> Any:
    """A value in JSON's terms: labels as text, tuples as lists."""
    if isinstance(value, bytes):
        return value.decode(History.LABELS)
    if isinstance(value, tuple):
        return [plain(each) for each in value]
    return value


def operation_of(kind: type[Operation], content: dict[str, Any]) -> Operation:
    encoded = History.LABELS
    for name in ("values", "keys"):
        if name in content:
            content[name] = tuple(label.encode(encoded) for label in content[name])
    if "records" in content:
        content["records"] = tuple((offset, label.encode(encoded)) for offset, label in content["records"])
    if "timestamps" in content:
        content["timestamps"] = tuple(content["timestamps"])
    content["outcome"] = Outcome(content["outcome"])
    return kind(**content)
