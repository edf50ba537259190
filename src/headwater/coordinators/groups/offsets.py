"""Committed offsets: the positions of groups, and the rules of committing, fetching, deleting and expiring them.

A position that a client has seen never goes back. So an answer with offsets waits until the last record about them is on
disk (`GroupCoordinator.answer_when_durable`).

A group that never has a member exists through its offsets alone. As in Kafka its name stays when the last of them is deleted,
or when the transaction that would have committed the first one aborts: until the next cleanup it is an empty group, not an
unknown one.

Of two records about one partition the later one counts, whenever their transactions end. For example, a transaction is to
commit 9, then a client commits 5 without one: 5 stays when the transaction commits. A removal drops what is pending, too.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple, TypeAlias

from headwater.coordinators.groups.classic.group import Group, GroupState
from headwater.coordinators.groups.records import CommittedOffset, offset_record, read_key, read_offset
from headwater.protocol.compiled import decode
from headwater.protocol.error_codes import ErrorCode
from headwater.protocol.errors import ProtocolError
from headwater.protocol.messages.stored_offset_commit import OffsetCommitKey
from headwater.replay.decision import Decision, everything
from headwater.replay.state_record import NO_PRODUCER, StateRecord

TopicPartition: TypeAlias = tuple[str, int]
Errors: TypeAlias = dict[TopicPartition, ErrorCode]


class Commit(NamedTuple):
    """One partition of a commit. The timestamps are ms; `expire_timestamp` is -1 for the broker's retention."""

    topic: str
    partition: int
    offset: int
    leader_epoch: int
    metadata: str | None
    expire_timestamp: int = -1


class Offsets:
    """The committed offsets of all groups: a replayed machine (`replay/decision.py`)."""

    def __init__(self, metadata_bytes_max: int) -> None:
        self.metadata_bytes_max = metadata_bytes_max
        self.groups: dict[str, dict[TopicPartition, CommittedOffset]] = {}
        self.names: set[str] = set()  # of all groups that have had offsets, pending ones too, and are not forgotten
        # By producer: the offsets that its open transaction would commit.
        self.pending: dict[int, dict[tuple[str, TopicPartition], CommittedOffset]] = {}
        self.pending_counts: Counter[tuple[str, TopicPartition]] = Counter()
        # The numbers of the records: of each pending offset, and of a committed one while another is pending for its partition.
        self.pending_at: dict[tuple[int, str, TopicPartition], int] = {}
        self.committed_at: dict[tuple[str, TopicPartition], int] = {}
        self.records_replayed = 0

    # -- decisions

    def commit(self, group_id: str, commits: Iterable[Commit], now_ms: int) -> Decision[StateRecord, Errors]:
        """Decides a commit: the records to append, and an error for each partition."""
        records, errors = [], {}
        for commit in commits:
            key = (commit.topic, commit.partition)
            metadata = commit.metadata or ""
            if len(metadata.encode()) > self.metadata_bytes_max:
                errors[key] = ErrorCode.OFFSET_METADATA_TOO_LARGE
                continue
            committed = CommittedOffset(commit.offset, commit.leader_epoch, metadata, now_ms, commit.expire_timestamp)
            records.append(offset_record(group_id, *key, committed))
            errors[key] = ErrorCode.NONE
        return Decision(records, errors)

    def removal(self, group_id: str, keys: Iterable[TopicPartition]) -> list[StateRecord]:
        """The records that remove these offsets, as far as they are committed or pending."""
        known = self.of_group(group_id)
        return [
            offset_record(group_id, topic, partition, None)
            for topic, partition in keys
            if (topic, partition) in known or self.is_pending(group_id, topic, partition)
        ]

    # -- replay

    def replay(self, record: StateRecord) -> None:
        """Applies a commit or its removal. Within a transaction it is applied when the transaction ends."""
        key = read_key(record.key)
        if not isinstance(key, OffsetCommitKey):
            raise ProtocolError("the record is not one of a committed offset")
        self.records_replayed += 1
        committed = None if record.value is None else read_offset(record.value)
        if committed is not None:
            self.names.add(key.group)
        if record.producer_id != NO_PRODUCER and committed is not None:
            self.set_pending(record.producer_id, key.group, (key.topic, key.partition), committed)
        else:
            self.set_committed(key.group, (key.topic, key.partition), committed, self.records_replayed)
            if committed is None:
                self.drop_pending(key.group, (key.topic, key.partition))

    def forget(self, group_id: str) -> None:
        """A group was removed: its name is no longer known, unless it has offsets, which are then another group's."""
        if group_id not in self.groups:
            self.names.discard(group_id)

    def set_committed(
        self, group_id: str, key: TopicPartition, committed: CommittedOffset | None, record_number: int
    ) -> None:
        if (group_id, key) in self.pending_counts:
            self.committed_at[group_id, key] = record_number
        offsets = self.groups.setdefault(group_id, {})
        if committed is not None:
            offsets[key] = committed
            return
        offsets.pop(key, None)
        if not offsets:
            del self.groups[group_id]

    def set_pending(self, producer_id: int, group_id: str, key: TopicPartition, committed: CommittedOffset) -> None:
        pending = self.pending.setdefault(producer_id, {})
        if (group_id, key) not in pending:
            self.pending_counts[group_id, key] += 1
        pending[group_id, key] = committed
        self.pending_at[producer_id, group_id, key] = self.records_replayed

    def end_pending(self, producer_id: int, group_id: str, key: TopicPartition) -> int:
        """Forgets what a producer would commit. Returns the number of its record, or 0 if a later one counts instead."""
        place = (group_id, key)
        del self.pending[producer_id][place]
        record_number = self.pending_at.pop((producer_id, group_id, key))
        is_late = record_number < self.committed_at.get(place, 0)
        self.pending_counts[place] -= 1
        if not self.pending_counts[place]:
            del self.pending_counts[place]
            self.committed_at.pop(place, None)
        if not self.pending[producer_id]:
            del self.pending[producer_id]
        return 0 if is_late else record_number

    def drop_pending(self, group_id: str, key: TopicPartition) -> None:
        """A removed offset does not come back when a transaction commits."""
        if self.is_pending(group_id, *key):
            for producer_id in [p for p, pending in self.pending.items() if (group_id, key) in pending]:
                self.end_pending(producer_id, group_id, key)

    def end_transaction(self, producer_id: int, belongs: Callable[[str], bool], *, commit: bool) -> set[str]:
        """Applies or drops the pending offsets of a producer in those groups. Returns the groups."""
        pending = self.pending.get(producer_id, {})
        ended = {place: committed for place, committed in pending.items() if belongs(place[0])}
        for (group_id, key), committed in ended.items():
            record_number = self.end_pending(producer_id, group_id, key)
            if commit and record_number:
                self.names.add(group_id)
                self.set_committed(group_id, key, committed, record_number)
        return {group_id for group_id, _ in ended}

    def snapshot(self, belongs: Callable[[str], bool] = everything) -> Iterator[StateRecord]:
        """Records that make the committed offsets of those groups from nothing, without open transactions."""
        for group_id, offsets in self.groups.items():
            if belongs(group_id):
                for (topic, partition), committed in offsets.items():
                    yield offset_record(group_id, topic, partition, committed)

    # -- questions

    def is_pending(self, group_id: str, topic: str, partition: int) -> bool:
        """Whether an open transaction may move this offset."""
        return (group_id, (topic, partition)) in self.pending_counts

    def fetch(self, group_id: str, topic: str, partition: int) -> CommittedOffset:
        """The committed offset; its offset is -1 if there is none."""
        return self.groups.get(group_id, {}).get((topic, partition), CommittedOffset(-1))

    def awaits(self, group_id: str) -> bool:
        """Whether a group will have offsets if a transaction commits."""
        return any(group_id == g for kept in self.pending.values() for g, _ in kept)

    def all_keys(self, group_id: str) -> list[TopicPartition]:
        """The partitions for which a group has offsets, or will have some if a transaction commits."""
        return [*dict.fromkeys([*self.of_group(group_id), *(key for g, key in self.pending_counts if g == group_id)])]

    def of_group(self, group_id: str) -> dict[TopicPartition, CommittedOffset]:
        return self.groups.get(group_id, {})

    def expired_partitions(
        self, group_id: str, group: Group | None, now_ms: int, retention_ms: int
    ) -> list[TopicPartition]:
        """The partitions whose committed offsets are no longer needed (KIP-211).

        A group with members keeps the offsets of the topics that it subscribes to. An empty group keeps all its offsets
        until it has been empty for the retention time. If it never had a member, the time of the commit counts instead.
        """
        offsets = self.of_group(group_id)
        base: Callable[[CommittedOffset], int]
        if group is None or group.protocol_type is None:
            base, keep = (lambda committed: committed.commit_timestamp), frozenset[str]()
        elif group.state is GroupState.EMPTY:
            since = group.state_timestamp
            base, keep = (lambda committed: max(committed.commit_timestamp, since)), frozenset[str]()
        elif group.state is GroupState.STABLE and group.protocol_type == "consumer":
            topics = subscribed_topics(group)
            if topics is None:
                return []
            base, keep = (lambda committed: committed.commit_timestamp), topics
        else:
            return []
        return [
            key
            for key, committed in offsets.items()
            if key[0] not in keep
            and not self.is_pending(group_id, *key)
            and now_ms
            >= (committed.expire_timestamp if committed.expire_timestamp >= 0 else base(committed) + retention_ms)
        ]


def subscribed_topics(group: Group) -> frozenset[str] | None:
    """The topics that a group of consumers subscribes to; None if a member's metadata is not a consumer's."""
    from headwater.protocol.messages.embedded import ConsumerProtocolSubscription

    topics: set[str] = set()
    for member in group.members.values():
        metadata = member.metadata(group.protocol)
        try:
            version = int.from_bytes(metadata[:2], "big", signed=True)
            if len(metadata) < 2 or version < 0:
                return None
            topics.update(decode(ConsumerProtocolSubscription, min(version, 3), metadata, 2)[0].topics)
        except ProtocolError:
            return None
    return frozenset(topics)
