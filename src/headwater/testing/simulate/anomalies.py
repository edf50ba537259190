"""What a history can be found guilty of, and what its broker was allowed to do."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class AnomalyKind(StrEnum):
    """The names are Jepsen's where it has one."""

    LOST_WRITE = "lost write"
    """Acknowledged, and not there at the end."""
    DUPLICATE = "duplicate"
    """One record of an idempotent or transactional producer at two offsets."""
    REORDERED = "reordered"
    """Records of one producer in another order than the one in which it sent them."""
    INCONSISTENT_OFFSET = "inconsistent offset"
    """One offset with two values: it was used again."""
    READ_BEFORE_DURABLE = "read before durable"
    """A consumer saw a record that is not there at the end."""
    ABORTED_READ = "aborted read"
    """A reader of committed records saw a record of a transaction that was aborted, or an offset that one committed."""
    PRECOMMITTED_READ = "precommitted read"
    """A reader of committed records saw a record before anybody asked for the commit."""
    TORN_TRANSACTION = "torn transaction"
    """Some of a transaction is there, and some is not."""
    FAILED_WRITE_READ = "failed write read"
    """The broker said that it did not write a record, and it is there."""
    UNKNOWN_VALUE = "unknown value"
    """A record that nobody sent to this partition, or not yet."""
    POLL_SKIP = "poll skip"
    """A consumer went past a record without getting it."""
    NONMONOTONIC_POLL = "nonmonotonic poll"
    """A consumer got a record below its position, or two in the wrong order."""
    DELETED_READ = "deleted read"
    """A record came back after its deletion was confirmed."""
    EARLY_REMOVAL = "early removal"
    """The log starts after records that nobody deleted and that have not expired."""
    UNREAD = "unread"
    """A partition was written to and not read at the end: nothing can be said of it."""
    OFFSET_BACK = "group offset back"
    """A group's committed offset went back to an earlier one."""
    UNKNOWN_OFFSET = "unknown group offset"
    """A group's committed offset is one that nobody committed."""
    LOST_OFFSET = "lost group offset"
    """A group's committed offset is gone."""
    BEYOND_READ = "group offset beyond read"
    """A group's committed offset lies beyond what its members read, or beyond the end of the log."""
    WRONG_LOOK_UP = "wrong look-up"
    """A look-up by time found another record than the first at or after that time."""
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
    """A loop that reads `source` and, in one transaction each, writes `target` and commits the offsets of `group`.

    A copy has its source's partition, and as its value `prefix` and the source's value.
    """

    group: str
    source: str
    target: str
    prefix: bytes = b"copy:"


@dataclass(frozen=True, slots=True)
class Rules:
    """What the broker was allowed, or told, to do."""

    compacted: frozenset[str] = frozenset()
    """Topics in which a record may vanish when a later one has its key."""
    expired_before_ms: Mapping[str, int] = field(default_factory=dict)
    """For topics with a retention time: the latest time, by the broker's wall clock, before which records may have been removed."""
    exclusive_groups: frozenset[str] = frozenset()
    """Groups for which only their members commit, each for its own partitions and its own position."""
    damaged: frozenset[tuple[str, int]] = frozenset()
    """Partitions whose files were damaged on disk: records may be missing there, but what is served must be right."""
    copies: tuple[Copy, ...] = ()
