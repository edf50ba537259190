"""The anomalies that the checker can find in a history, and the rules for what the broker was allowed to do."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class AnomalyKind(StrEnum):
    """Kinds of anomalies. If Jepsen has a name for one, it is used here."""

    LOST_WRITE = "lost write"
    """A record was acknowledged, but is missing at the end."""
    DUPLICATE = "duplicate"
    """A record of an idempotent or transactional producer is at two offsets."""
    REORDERED = "reordered"
    """Records of one producer are not in the order in which it sent them."""
    INCONSISTENT_OFFSET = "inconsistent offset"
    """One offset has had two values: it was used again."""
    READ_BEFORE_DURABLE = "read before durable"
    """A consumer saw a record that is missing at the end."""
    ABORTED_READ = "aborted read"
    """A reader of committed records saw a record of an aborted transaction, or a group's offset that such a one committed."""
    PRECOMMITTED_READ = "precommitted read"
    """A reader of committed records saw a record before its commit was requested."""
    TORN_TRANSACTION = "torn transaction"
    """Only a part of a transaction is visible."""
    FAILED_WRITE_READ = "failed write read"
    """The broker answered that it did not write a record, but the record is in the log."""
    UNKNOWN_VALUE = "unknown value"
    """A record was read that nobody had sent to this partition, or only sent later."""
    POLL_SKIP = "poll skip"
    """A consumer moved past a record without getting it."""
    NONMONOTONIC_POLL = "nonmonotonic poll"
    """A consumer got a record below its position, or two in the wrong order."""
    DELETED_READ = "deleted read"
    """A record was read after its deletion was confirmed."""
    EARLY_REMOVAL = "early removal"
    """The log starts after records that nobody deleted and that have not expired."""
    UNREAD = "unread"
    """A partition was written to but not read at the end, so it cannot be judged."""
    OFFSET_BACK = "group offset back"
    """A group's committed offset went back to an earlier one."""
    UNKNOWN_OFFSET = "unknown group offset"
    """A group's committed offset was never committed by anybody."""
    LOST_OFFSET = "lost group offset"
    """A group's committed offset is gone."""
    BEYOND_READ = "group offset beyond read"
    """A group's committed offset lies beyond what its members read, or beyond the end of the log."""
    WRONG_LOOK_UP = "wrong look-up"
    """A look-up by time did not find the first record at or after that time."""
    WRONG_COPY = "wrong copy"
    """A consume-transform-produce loop lost a record, or copied one twice or too early."""


@dataclass(frozen=True, slots=True)
class Anomaly:
    """One thing that must not have happened, and where."""

    kind: AnomalyKind
    where: str
    text: str

    def __str__(self) -> str:
        return f"{self.kind} in {self.where}: {self.text}"


@dataclass(frozen=True, slots=True)
class Copy:
    """A loop that reads `source`, writes `target`, and commits the offsets of `group`; the last two in one transaction.

    A copied record has the same partition as its source, and its value is `prefix` followed by the source's value.
    """

    group: str
    source: str
    target: str
    prefix: bytes = b"copy:"


@dataclass(frozen=True, slots=True)
class Rules:
    """What the broker was allowed or configured to do."""

    compacted: frozenset[str] = frozenset()
    """Compacted topics: a record may be removed if a later one has the same key."""
    expired_before_ms: Mapping[str, int] = field(default_factory=dict)
    """For topics with a retention time: the latest time, by the broker's wall clock, before which records may have been removed."""
    exclusive_groups: frozenset[str] = frozenset()
    """Groups whose offsets only their members commit, each its own position in its own partitions."""
    damaged: frozenset[tuple[str, int]] = frozenset()
    """Partitions whose files were damaged on disk: records may be missing, but every record that is served must be right."""
    copies: tuple[Copy, ...] = ()
