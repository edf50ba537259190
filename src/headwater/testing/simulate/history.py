"""What clients did and saw: the history that the checker judges.

Theory. A client cannot see inside the broker. It sees that it began an operation, and that the operation ended in one of
three ways, which Jepsen calls ok, fail and info:

    OK        the broker said that it is done
    FAILED    it is certain that nothing happened, and nothing ever will
    UNKNOWN   no answer, or one that leaves it open: it may have happened, or still happen at any later time

A request that is sent and never answered is UNKNOWN, even if the client repeats it: one operation lasts until the client
gives up or has an answer. Only a refusal of every attempt makes it FAILED.

`began` and `ended` order the operations. With the default clock they count events, which is exact where one thread
records everything. Recorders in several processes on one machine give `time.monotonic_ns` as the clock and join their
histories with `History.load`. An operation A came before B only if A ended before B began. An operation without an
answer never ended.

Topics. A name can be deleted and created again; what was in the old topic is not in the new one. So `topic` names one life of
a topic, for example `orders#2`. The checker never looks inside the name.

Values are labels that are unique to one `Send`; the checker finds a record's origin by them. A copy of a record in another
topic (consume, transform, produce) may be sent again after an abort with the same label: then each attempt is a `Send`.
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
    error: str = ""  # what the broker said, for people


@dataclass(slots=True, kw_only=True, eq=False)
class Send(Operation):
    """Records for one partition, in one batch.

    `producer` is set for idempotent and transactional producers: what one of them sends to a partition is there once and
    in this order. `transaction` names the transaction, unique over all producers. `offset` is the first record's, where the answer says it.
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
    """Records that a consumer got of one partition: all that it may see from `position` up to `next_position`.

    `is_committed`: the consumer reads committed records only, and `records` has only what it hands to its application. `is_final`: the whole
    partition, read when every client is done and the broker has recovered; each partition that was sent to needs one of each kind of read.
    """

    topic: str
    partition: int
    position: int
    is_committed: bool = False
    is_final: bool = False
    group: str = ""  # the consumer group whose progress this is
    records: tuple[tuple[int, bytes], ...] = ()
    next_position: int = NO_OFFSET
    log_start: int = NO_OFFSET  # the broker's, where the answer says it


@dataclass(slots=True, kw_only=True, eq=False)
class EndTransaction(Operation):
    """A commit or an abort. A transaction without an end was left open by its producer: it must become aborted."""

    transaction: str
    commit: bool


@dataclass(slots=True, kw_only=True, eq=False)
class CommitOffset(Operation):
    """A group's progress in one partition. In a transaction it counts when that is committed."""

    group: str
    topic: str
    partition: int
    offset: int
    transaction: str = ""


@dataclass(slots=True, kw_only=True, eq=False)
class FetchOffset(Operation):
    """A group's committed offset, as the broker says it; NO_OFFSET: there is none. `is_stable`: open transactions are waited for."""

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
        """Call this after the answer has come; set what the answer says (offset, records) before."""
        operation.outcome, operation.error = outcome, error
        if outcome is not Outcome.UNKNOWN:
            operation.ended = self.clock()

    def of(self, kind: type[OperationType]) -> Iterator[OperationType]:
        """All operations of a kind."""
        return (operation for operation in self.operations if type(operation) is kind)

    def lines(self) -> Iterator[str]:
        """One JSON object for each operation."""
        for operation in self.operations:
            named = {field.name: plain(getattr(operation, field.name)) for field in fields(operation)}
            yield json.dumps({"kind": type(operation).__name__, **named}, separators=(",", ":"))

    @classmethod
    def load(cls, lines: Iterable[str]) -> "History":
        """The history that was written by `lines`; those of several processes one after the other. Raises ValueError.

        A last line that was cut when its writer was killed is an error: leave it away only if you know that.
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
    """A value as JSON has it: labels as text, tuples as lists."""
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
