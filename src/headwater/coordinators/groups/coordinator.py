"""The group coordinator: membership and offsets over the records of `__consumer_offsets`.

Three replayed machines (`replay/decision.py`) share that topic: classic groups, consumer groups and committed offsets. A
decision may have records of several machines, appended as one batch. For example, removing a group removes its offsets too.
So they share this coordinator's runtime, and its `replay` passes each record to the machine that it is for.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from headwater.bus.signal import Signal
from headwater.coordinators.groups.classic.group import Group, GroupState, JoinAnswer, SyncAnswer
from headwater.coordinators.groups.classic.membership import GroupLimits, JoinRequest, Membership, SyncRequest
from headwater.coordinators.groups.consumer.coordinator import ConsumerGroups
from headwater.coordinators.groups.consumer.group import JOIN_EPOCH, ConsumerGroup, ConsumerGroupState
from headwater.coordinators.groups.consumer.heartbeat import Heartbeat, HeartbeatAnswer, check
from headwater.coordinators.groups.consumer.records import GroupRecordType, group_removal_records, read_consumer_key
from headwater.coordinators.groups.consumer.subscriptions import ConsumerGroupLimits, Topics
from headwater.coordinators.groups.migration import Migration
from headwater.coordinators.groups.offsets import Commit, Errors, Offsets, TopicPartition, subscribed_topics
from headwater.coordinators.groups.records import OFFSET_COMMITS, group_record, read_key, read_record_type
from headwater.coordinators.state_records import append_error
from headwater.effects.clock import Clock
from headwater.effects.entropy import Entropy
from headwater.effects.logs import get_logger
from headwater.effects.timers import Timers
from headwater.effects.work import Steps
from headwater.protocol.error_codes import ErrorCode
from headwater.protocol.errors import ApiError
from headwater.protocol.messages.stored_group_metadata import GroupMetadataKey
from headwater.replay.decision import Decision, Runtime, StateLog, everything
from headwater.replay.deferred import Deferred
from headwater.replay.state_record import StateRecord
from headwater.replay.sync_number import NO_SYNC, SyncNumber

logger = get_logger(__name__)

INT32_MIN = -(1 << 31)
Answer = TypeVar("Answer")


def partition_for(group_id: str, partitions: int) -> int:
    """The partition of `__consumer_offsets` that keeps a group: Java's String.hashCode without its sign, as in Kafka."""
    hash_ = 0
    units = group_id.encode("utf-16-be")
    for i in range(0, len(units), 2):
        hash_ = (31 * hash_ + int.from_bytes(units[i : i + 2], "big")) & 0xFFFFFFFF
    signed = hash_ - (1 << 32) if hash_ >> 31 else hash_
    return 0 if signed == INT32_MIN else abs(signed) % partitions


def removed_group(record: StateRecord) -> str:
    """The group that a record without a value removes; "" if it removes something else."""
    key = read_key(record.key)
    if isinstance(key, GroupMetadataKey):
        return key.group
    other = read_consumer_key(record.key)
    return str(other.group_id) if other is not None and other.RECORD_TYPE == GroupRecordType.GROUP_EPOCH else ""


class GroupCoordinator:
    """All groups of this broker."""

    def __init__(
        self,
        clock: Clock,
        timers: Timers,
        entropy: Entropy,
        limits: GroupLimits,
        log: StateLog[StateRecord],
        *,
        topics: Topics,
        consumer_limits: ConsumerGroupLimits,
        configs_of: Callable[[str], ConsumerGroupLimits],
        assignment_interval_of: Callable[[str], int],
        migration_policy: str = "bidirectional",
        offset_metadata_bytes_max: int = 4096,
        offsets_retention_ms: int = 7 * 24 * 3_600_000,
        rebalanced: Signal[str, int, int] | None = None,
    ) -> None:
        self.clock = clock
        self.runtime: Runtime[StateRecord] = Runtime(self, log)
        self.membership = Membership(clock, timers, entropy, limits, self.runtime, rebalanced)
        self.consumers = ConsumerGroups(
            clock,
            timers,
            topics,
            self.runtime,
            consumer_limits,
            configs_of,
            assignment_interval_of,
            lambda change: self.migration.downgrade(change),
            rebalanced,
        )
        self.migration = Migration(self.membership, self.consumers, self.runtime, migration_policy)
        self.offsets = Offsets(offset_metadata_bytes_max)
        self.offset_syncs: dict[str, SyncNumber] = {}  # by group: the sync that makes its offsets durable
        self.offsets_retention_ms = offsets_retention_ms

    @property
    def groups(self) -> dict[str, Group]:
        return self.membership.groups

    # -- members: each request goes to its group's protocol

    def consumer_heartbeat(self, request: Heartbeat) -> HeartbeatAnswer | Deferred[HeartbeatAnswer]:
        """ConsumerGroupHeartbeat; answers with a HeartbeatAnswer."""
        if request.group_id in self.groups and request.epoch == JOIN_EPOCH:
            try:
                check(request, self.consumers.limits.assignors)
                self.migration.upgrade(request.group_id)
            except ApiError as error:
                return HeartbeatAnswer(error.code, error.message)
        return self.consumers.heartbeat(request)

    def join(self, request: JoinRequest) -> JoinAnswer | Deferred[JoinAnswer]:
        """JoinGroup; answers with a JoinAnswer."""
        group = self.consumers.groups.get(request.group_id)
        if group is None:
            return self.membership.join(request, is_known=request.group_id in self.offsets.names)
        if not group.members:
            removed = self.remove_consumer_group(group)
            return removed if isinstance(removed, JoinAnswer) else self.membership.join(request, is_known=True)
        return self.migration.join(group, request)

    def remove_consumer_group(self, group: ConsumerGroup) -> JoinAnswer | None:
        """Removes an empty group of the new protocol, so that a classic one can have its name."""
        try:
            self.runtime.apply(group.group_id, group_removal_records(group))
        except OSError as error:
            logger.error("group %s cannot be written: %s", group.group_id, error)
            return JoinAnswer(append_error(error))
        return None

    def sync(self, request: SyncRequest) -> SyncAnswer | Deferred[SyncAnswer]:
        """SyncGroup; answers with a SyncAnswer."""
        group = self.consumers.groups.get(request.group_id)
        return self.migration.sync(group, request) if group is not None else self.membership.sync(request)

    def heartbeat(self, group_id: str, generation: int, member_id: str, instance_id: str | None) -> ErrorCode:
        """Heartbeat of the classic protocol."""
        group = self.consumers.groups.get(group_id)
        if group is not None:
            return self.migration.heartbeat(group, member_id, instance_id, generation)
        return self.membership.heartbeat(group_id, generation, member_id, instance_id)

    def leave(self, group_id: str, leaving: list[tuple[str, str | None]]) -> ErrorCode | list[ErrorCode]:
        """LeaveGroup: returns one error for all members, or one for each."""
        group = self.consumers.groups.get(group_id)
        return self.migration.leave(group, leaving) if group is not None else self.membership.leave(group_id, leaving)

    # -- offsets

    def check_commit(
        self,
        group_id: str,
        generation: int,
        member_id: str,
        instance_id: str | None,
        commits: Iterable[Commit],
        *,
        in_transaction: bool = False,
        knows_epochs: bool = True,
    ) -> ErrorCode:
        """Whether this member, or a client that is not a member, may commit these now.

        Within a transaction the producer is fenced by its epoch, so one that names no member may commit (KIP-447).
        `knows_epochs`: the request is of a version that clients of KIP-848 speak.
        """
        consumers = self.consumers.groups.get(group_id)
        if consumers is not None:
            if in_transaction and generation < 0 and not member_id:
                return ErrorCode.NONE
            return self.consumers.check_commit(consumers, member_id, generation, commits, knows_epochs=knows_epochs)
        group = self.groups.get(group_id)
        if group is None:
            if generation < 0:
                return ErrorCode.NONE
            if group_id in self.offsets.names:  # a group that has or had offsets, and no members
                return ErrorCode.UNKNOWN_MEMBER_ID
            has_name = knows_epochs and not in_transaction
            return ErrorCode.GROUP_ID_NOT_FOUND if has_name else ErrorCode.ILLEGAL_GENERATION
        if generation < 0 and group.state is GroupState.EMPTY:
            return ErrorCode.NONE
        if generation < 0 and not member_id and instance_id is None:
            return ErrorCode.NONE if in_transaction else ErrorCode.UNKNOWN_MEMBER_ID
        member, error = self.membership.find_member(group, member_id, instance_id)
        if member is None:
            return error
        if generation != group.generation:
            return ErrorCode.ILLEGAL_GENERATION
        if group.state is GroupState.COMPLETING_REBALANCE:
            return ErrorCode.REBALANCE_IN_PROGRESS
        self.membership.touch(group, member)
        return ErrorCode.NONE

    def commit(self, group_id: str, commits: Iterable[Commit]) -> Errors | Deferred[Errors]:
        """Commits offsets for a client that was checked. Answers with an error for each partition."""
        decision = self.offsets.commit(group_id, commits, self.clock.wall_ms())
        return self.change_offsets(group_id, decision)

    def commit_pending(
        self, group_id: str, commits: Iterable[Commit], producer_id: int, producer_epoch: int
    ) -> Errors | Deferred[Errors]:
        """Commits offsets within a transaction, for a producer that was checked. They count once the transaction commits."""
        records, errors = self.offsets.commit(group_id, commits, self.clock.wall_ms())
        pending = [r._replace(producer_id=producer_id, producer_epoch=producer_epoch) for r in records]
        return self.change_offsets(group_id, Decision(pending, errors))

    def end_transaction(
        self, producer_id: int, belongs: Callable[[str], bool], *, commit: bool, sync: SyncNumber = NO_SYNC
    ) -> None:
        """Applies or drops the offsets that a transaction committed in those groups. `sync` makes its marker durable."""
        for group_id in self.offsets.end_transaction(producer_id, belongs, commit=commit):
            self.offset_syncs[group_id] = sync

    def remove_offsets(self, group_id: str, keys: Iterable[TopicPartition]) -> ErrorCode | Errors | Deferred[Errors]:
        """Removes committed offsets. Answers with an error for each partition, or one for all."""
        if not self.is_known(group_id):
            return ErrorCode.GROUP_ID_NOT_FOUND
        group, consumers = self.groups.get(group_id), self.consumers.groups.get(group_id)
        keys = list(keys)
        errors: Errors = dict.fromkeys(keys, ErrorCode.NONE)
        if consumers is not None:
            topics = consumers.subscribed_topics()
            errors = {k: ErrorCode.GROUP_SUBSCRIBED_TO_TOPIC if k[0] in topics else ErrorCode.NONE for k in keys}
        elif group is not None and group.state is not GroupState.EMPTY:
            if group.protocol_type != "consumer":
                return ErrorCode.NON_EMPTY_GROUP
            # Metadata that cannot be read may subscribe to any topic.
            subscribed = subscribed_topics(group)
            topics = frozenset(key[0] for key in keys) if subscribed is None else subscribed
            errors = {k: ErrorCode.GROUP_SUBSCRIBED_TO_TOPIC if k[0] in topics else ErrorCode.NONE for k in keys}
        allowed = [key for key, error in errors.items() if error is ErrorCode.NONE]
        return self.change_offsets(group_id, Decision(self.offsets.removal(group_id, allowed), errors))

    def change_offsets(self, group_id: str, decision: Decision[StateRecord, Errors]) -> Errors | Deferred[Errors]:
        """Carries out a change of a group's offsets. If it cannot be written, it is made for no partition."""
        if not decision.records:
            return decision.answer
        try:
            sync = self.runtime.apply(group_id, decision.records)
        except OSError as error:
            logger.error("group %s cannot be written: %s", group_id, error)
            code = append_error(error)
            return {key: refused or code for key, refused in decision.answer.items()}
        self.offset_syncs[group_id] = sync
        return self.runtime.answer_when_durable(sync, decision.answer)

    def answer_when_durable(self, group_ids: Iterable[str], answer: Answer) -> Answer | Deferred[Answer]:
        """Gives an answer with offsets of these groups when those are on disk."""
        sync = max((self.offset_syncs.get(group_id, NO_SYNC) for group_id in group_ids), default=NO_SYNC)
        return self.runtime.answer_when_durable(sync, answer)

    # -- groups

    def delete_group(self, group_id: str) -> ErrorCode | Deferred[ErrorCode]:
        """Removes an empty group with its offsets; answers with an ErrorCode."""
        if not self.is_known(group_id):
            return ErrorCode.GROUP_ID_NOT_FOUND
        group, consumers = self.groups.get(group_id), self.consumers.groups.get(group_id)
        if consumers is not None and consumers.members:
            return ErrorCode.NON_EMPTY_GROUP
        if group is not None and (group.state is not GroupState.EMPTY or group.pending):
            return ErrorCode.NON_EMPTY_GROUP
        removal = group_removal_records(consumers) if consumers is not None else [group_record(group_id, None)]
        records = [*self.offsets.removal(group_id, self.offsets.all_keys(group_id)), *removal]
        return self.remove(group_id, records)

    def remove(self, group_id: str, records: list[StateRecord]) -> ErrorCode | Deferred[ErrorCode]:
        """Appends what removes offsets or a group; answers with an ErrorCode."""
        try:
            return self.runtime.carry_out(group_id, Decision(records, ErrorCode.NONE))
        except OSError as error:
            logger.error("group %s cannot be written: %s", group_id, error)
            return append_error(error)

    def group_ids(self) -> list[str]:
        """Every group that is known."""
        return sorted({*self.groups, *self.consumers.groups, *self.offsets.names})

    def is_known(self, group_id: str) -> bool:
        """Whether the group has members or offsets, or has had some and was not cleaned up since."""
        return group_id in self.groups or group_id in self.consumers.groups or group_id in self.offsets.names

    def state_of(self, group_id: str) -> GroupState | ConsumerGroupState:
        """The state of a group; one that only has offsets is empty."""
        consumers = self.consumers.groups.get(group_id)
        if consumers is not None:
            return consumers.state
        group = self.groups.get(group_id)
        if group is not None:
            return group.state
        return GroupState.EMPTY if group_id in self.offsets.names else GroupState.DEAD

    def expire_offsets(self, done: Callable[[int], None]) -> Steps[None]:
        """Removes committed offsets that are no longer needed, and groups that have none left. `done` gets the number.

        As in Kafka, a group without members and offsets is removed at once: otherwise every name that a client once used
        would stay for ever.
        """
        now_ms = self.clock.wall_ms()
        for group_id in self.group_ids():
            yield
            group, consumers = self.groups.get(group_id), self.consumers.groups.get(group_id)
            keys = self.offsets.expired_partitions(group_id, group, now_ms, self.offsets_retention_ms)
            if consumers is not None:
                topics = consumers.subscribed_topics()
                keys = [key for key in keys if key[0] not in topics]
            records = self.offsets.removal(group_id, keys)
            has_nothing_left = len(keys) == len(self.offsets.of_group(group_id)) and not self.offsets.awaits(group_id)
            is_idle = group is None or (group.state is GroupState.EMPTY and not group.pending)
            if consumers is None and is_idle and has_nothing_left:
                records.append(group_record(group_id, None))
            if consumers is not None and not consumers.members and has_nothing_left:
                records += group_removal_records(consumers)
            if records:
                self.remove(group_id, records)
            if keys:
                done(len(keys))

    def forget_topic(self, topic: str, partitions: int) -> None:
        """Removes the committed offsets of a deleted topic. It looks up only that topic's partitions in each group."""
        pending: dict[str, set[TopicPartition]] = {}
        for group_id, key in self.offsets.pending_counts:
            if key[0] == topic:
                pending.setdefault(group_id, set()).add(key)
        for group_id in [*dict.fromkeys([*self.offsets.groups, *pending])]:
            offsets = self.offsets.of_group(group_id)
            if len(offsets) < partitions:
                keys = {key for key in offsets if key[0] == topic}
            else:
                keys = {key for number in range(partitions) if (key := (topic, number)) in offsets}
            keys |= pending.get(group_id, set())
            if keys:
                self.remove(group_id, self.offsets.removal(group_id, sorted(keys)))

    # -- replay

    def replay(self, record: StateRecord) -> None:
        """Passes a record to the machine that it is for. Raises ProtocolError for a record that cannot be read."""
        record_type = read_record_type(record.key)
        if record_type in OFFSET_COMMITS:
            self.offsets.replay(record)
        elif record_type == GroupMetadataKey.RECORD_TYPE:
            self.membership.replay(record)
        else:  # of a consumer group, or of a kind that this version does not know
            self.consumers.replay(record)
        if record.value is None:
            self.offsets.forget(removed_group(record))

    def started(self) -> None:
        """Call this when all records are replayed: the loaded members' sessions begin."""
        self.membership.started()
        self.consumers.started()

    def is_settled(self, belongs: Callable[[str], bool]) -> bool:
        """Whether none of these groups is between two generations. Only then is a snapshot the same as their records."""
        settled = (GroupState.EMPTY, GroupState.STABLE)
        return all(group.state in settled for group_id, group in self.groups.items() if belongs(group_id))

    def snapshot(self, belongs: Callable[[str], bool] = everything) -> Iterator[StateRecord]:
        """Records that make the state of those groups from nothing."""
        yield from self.membership.snapshot(belongs)
        yield from self.consumers.snapshot(belongs)
        yield from self.offsets.snapshot(belongs)
