"""The transitions of KIP-848's groups: heartbeats that join, subscribe, reconcile and leave, and timeouts.

This is a replayed machine (`replay/decision.py`) whose decisions take several steps, each of which builds on those before:
a member joins, so the group has a new epoch, so there is a new target, so the member gets partitions. Therefore a `Change`
replays each record on a copy of the group as soon as it is decided. When all are appended, the group itself replays them.
Sources: GroupMetadataManager.java (consumerGroupHeartbeat), KIP-848.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import TypeVar

from headwater.bus.signal import Signal
from headwater.coordinators.groups.consumer import records as consumer_records
from headwater.coordinators.groups.consumer.group import (
    JOIN_EPOCH,
    LEAVE_EPOCH,
    LEAVE_STATIC_EPOCH,
    Assignment,
    ConsumerGroup,
    ConsumerMember,
    MemberState,
)
from headwater.coordinators.groups.consumer.heartbeat import Heartbeat, HeartbeatAnswer, check, check_epoch, subscribe
from headwater.coordinators.groups.consumer.sessions import Sessions
from headwater.coordinators.groups.consumer.subscriptions import ConsumerGroupLimits, Subscriptions, Topics
from headwater.coordinators.groups.offsets import Commit
from headwater.coordinators.state_records import append_error
from headwater.effects.clock import Clock
from headwater.effects.logs import get_logger
from headwater.effects.timers import Timers
from headwater.protocol.error_codes import ErrorCode
from headwater.protocol.errors import ApiError
from headwater.replay.decision import Runtime, everything
from headwater.replay.deferred import Deferred
from headwater.replay.state_record import StateRecord
from headwater.replay.sync_number import NO_SYNC

logger = get_logger(__name__)

Answer = TypeVar("Answer")
REVOCATION_TIMEOUT_MS = 300_000  # for a member without a rebalance timeout
FIRST_EPOCH = 1  # as in Kafka: the first member makes it 2


class Change:
    """The change that one request makes to a group. `group` is a copy with everything that is decided so far."""

    def __init__(self, original: ConsumerGroup) -> None:
        self.original = original
        self.epoch_before = original.epoch
        self.group = original.copy()
        self.records: list[StateRecord] = []
        self.timers: list[Callable[[], None]] = []  # changes of timers, made when the records are appended
        self.when_applied: Callable[[], None] | None = None

    def emit(self, *records: StateRecord) -> None:
        """Decides these records."""
        for record in records:
            self.records.append(record)
            consumer_records.replay(self.group, consumer_records.read_consumer_key(record.key), record.value)

    def end_group(self, *records: StateRecord, then: Callable[[], None]) -> None:
        """Decides that another group replaces this one. `then` is called when it has."""
        self.records += records
        self.when_applied = then


class ConsumerGroups:
    """All groups of the new protocol. `runtime` carries out their decisions."""

    def __init__(
        self,
        clock: Clock,
        timers: Timers,
        topics: Topics,
        runtime: Runtime[StateRecord],
        limits: ConsumerGroupLimits,
        configs_of: Callable[[str], ConsumerGroupLimits],
        assignment_interval_of: Callable[[str], int],
        after_removal: Callable[[Change], bool],
        rebalanced: Signal[str, int, int] | None = None,
    ) -> None:
        self.clock = clock
        self.topics = topics
        self.subscriptions = Subscriptions(clock, topics, limits, assignment_interval_of)
        self.runtime = runtime
        # A group, its new epoch, and the number of its members.
        self.rebalanced = rebalanced or Signal[str, int, int]("rebalanced")
        self.limits = limits
        self.configs_of = configs_of
        self.after_removal = after_removal  # may turn a group without members of this protocol into a classic one
        self.groups: dict[str, ConsumerGroup] = {}
        self.sessions = Sessions(timers, self.session_expired)

    # -- heartbeats

    def heartbeat(self, request: Heartbeat) -> HeartbeatAnswer | Deferred[HeartbeatAnswer]:
        """Answers with a HeartbeatAnswer."""
        try:
            check(request, self.limits.assignors)
            if request.epoch in (LEAVE_EPOCH, LEAVE_STATIC_EPOCH):
                return self.leave(request)
            change = Change(self.group_for(request))
            return self.commit(change, lambda: self.advance(change, request))
        except ApiError as error:
            return HeartbeatAnswer(error.code, error.message)

    def prolong_session(self, request: Heartbeat) -> HeartbeatAnswer | None:
        """The answer if the heartbeat only says that its member lives, and there is no news for it. That is most of them."""
        group = self.groups.get(request.group_id)
        member = None if group is None else group.members.get(request.member_id)
        if (
            member is None
            or not request.says_nothing
            or request.instance_id != member.instance_id
            or (request.client_id, request.client_host) != (member.client_id, member.client_host)
        ):
            return None
        interval_ms = self.prolong(request.group_id, member.member_id, request.epoch)
        if interval_ms is None:
            return None
        return HeartbeatAnswer(ErrorCode.NONE, None, member.member_id, member.epoch, interval_ms)

    def prolong(self, group_id: str, member_id: str, epoch: int) -> int | None:
        """Restarts a known member's session. Returns when to send the next heartbeat, or None if there is news for it."""
        group = self.groups.get(group_id)
        member = None if group is None else group.members.get(member_id)
        if (
            group is None
            or member is None
            or not epoch == member.epoch == group.target_epoch == group.epoch
            or member.state is not MemberState.STABLE
            or group.seen_version != self.topics.topics_version
            or member.classic is not None
            or self.subscriptions.is_refresh_due(group)
        ):
            return None
        limits = self.configs_of(group_id)
        self.start_session(group, member, limits.session_timeout_ms)
        return limits.heartbeat_interval_ms

    def group_for(self, request: Heartbeat) -> ConsumerGroup:
        group = self.groups.get(request.group_id)
        if group is None:
            if request.epoch != JOIN_EPOCH:
                raise ApiError(ErrorCode.GROUP_ID_NOT_FOUND, f"Consumer group {request.group_id} not found.")
            group = ConsumerGroup(request.group_id, epoch=FIRST_EPOCH)
        return group

    def commit(self, change: Change, decide: Callable[[], Answer]) -> Answer | Deferred[Answer]:
        """Lets `decide` emit its records, carries them out, and answers when they are on disk.

        If it raises ApiError, the group is as before.
        """
        group_id = change.original.group_id
        try:
            answer = decide()
            sync = self.runtime.apply(group_id, change.records) if change.records else NO_SYNC
        except BaseException as error:
            self.restore_timers(change)
            if isinstance(error, OSError):
                logger.error("group %s cannot be written: %s", group_id, error)
                raise ApiError(append_error(error), str(error)) from error
            raise
        for change_timer in change.timers:
            change_timer()
        if group_id in self.groups:
            group = self.groups[group_id]
            group.seen_version = change.group.seen_version
            if group.epoch != change.epoch_before:
                self.rebalanced.emit(group_id, group.epoch, len(group.members))
        if change.when_applied is not None:
            change.when_applied()
        return self.runtime.answer_when_durable(sync, answer) if change.records else answer

    def advance(self, change: Change, request: Heartbeat) -> HeartbeatAnswer:
        """Moves the member, and so the group, one step forward."""
        group = change.group
        known = self.member_for(change, request)
        is_new = known.member_id not in group.members
        assignor = self.subscriptions.assignor_of(group)
        updated = subscribe(known, request)
        if is_new or updated != known:
            change.emit(consumer_records.member_record(group.group_id, updated))
        subscribes = is_new or (updated.topics, updated.expression) != (known.topics, known.expression)
        finds_others = False
        if subscribes or group.seen_version != self.topics.topics_version or self.subscriptions.is_refresh_due(group):
            finds_others = self.resolve(change, request)
        needs_epoch = subscribes or finds_others or self.subscriptions.assignor_of(group) != assignor
        self.bump(change, needs_epoch=needs_epoch)
        member = self.reconcile(change, updated.member_id, request.owned, subscribes=subscribes)
        return self.answer(group, member, known, request)

    def answer(
        self, group: ConsumerGroup, member: ConsumerMember, known: ConsumerMember, request: Heartbeat
    ) -> HeartbeatAnswer:
        """Restarts the member's session. `known` is what it was before the request."""
        limits = self.configs_of(group.group_id)
        self.start_session(group, member, limits.session_timeout_ms)
        shows = request.epoch == JOIN_EPOCH or request.is_full or member.since() != known.since()
        return HeartbeatAnswer(
            ErrorCode.NONE,
            None,
            member.member_id,
            member.epoch,
            limits.heartbeat_interval_ms,
            member.assigned if shows else None,
        )

    def bump(self, change: Change, *, needs_epoch: bool) -> None:
        """Starts a new epoch if one is needed, and makes its target assignment if that is due."""
        group = change.group
        if needs_epoch or group.seen_version != self.topics.topics_version:
            digest = self.subscriptions.digest(group)
            if needs_epoch or digest != group.metadata_hash:
                change.emit(consumer_records.group_epoch_record(group.group_id, group.epoch + 1, digest))
            group.seen_version = self.topics.topics_version
        if group.epoch > group.target_epoch and self.subscriptions.may_assign(group):
            self.assign(change)

    def reconcile(
        self, change: Change, member_id: str, owned: Assignment | None, *, subscribes: bool
    ) -> ConsumerMember:
        """Moves the member one step towards its target. `subscribes`: the request changes its subscription."""
        group = change.group
        member = group.members[member_id]
        following = group.reconcile(member, owned, self.subscriptions.topic_ids(group, member), subscribes=subscribes)
        if following != member:
            change.emit(consumer_records.current_record(group.group_id, following))
            member = group.members[member_id]
            change.timers.append(partial(self.watch_revocation, group.group_id, member))
        return member

    # -- members

    def member_for(self, change: Change, request: Heartbeat) -> ConsumerMember:
        """The member that sent the request, or a new member. Raises ApiError for one that is fenced or unknown."""
        group = change.group
        is_joining = request.epoch == JOIN_EPOCH
        known = group.members.get(request.member_id)
        if request.instance_id is not None:
            known = self.static_member_for(change, request)
        if known is None:
            if not is_joining:
                message = f"Member {request.member_id} is not a member of group {group.group_id}."
                raise ApiError(ErrorCode.UNKNOWN_MEMBER_ID, message)
            self.check_size(group)
            return ConsumerMember(request.member_id, request.instance_id)
        if not is_joining:
            check_epoch(known, request.epoch, request.owned)
        return known

    def check_size(self, group: ConsumerGroup) -> None:
        if len(group.members) >= self.limits.size_max:
            message = f"The consumer group has reached its maximum capacity of {self.limits.size_max} members."
            raise ApiError(ErrorCode.GROUP_MAX_SIZE_REACHED, message)

    def static_member_for(self, change: Change, request: Heartbeat) -> ConsumerMember | None:
        group, instance_id = change.group, request.instance_id or ""
        current_id = group.static_members.get(instance_id)
        if request.epoch != JOIN_EPOCH:
            if current_id is None:
                raise ApiError(ErrorCode.UNKNOWN_MEMBER_ID, f"Instance id {instance_id} is unknown.")
            if current_id != request.member_id:
                raise ApiError(ErrorCode.FENCED_INSTANCE_ID, f"Instance id {instance_id} is another member's.")
            return group.members[current_id]
        if current_id is None:
            return group.members.get(request.member_id)
        current = group.members[current_id]
        if not current.has_left_for_now and current.classic is None:
            message = f"Static member {current_id} with instance id {instance_id} was not released."
            raise ApiError(ErrorCode.UNRELEASED_INSTANCE_ID, message)
        if current_id == request.member_id:
            return current
        return self.replace_static(change, current, request.member_id)

    def replace_static(self, change: Change, current: ConsumerMember, member_id: str) -> ConsumerMember:
        """A static member returns under a new member id, and gets back what it had."""
        group = change.group
        target = group.targets.get(current.member_id, {})
        after = replace(current, member_id=member_id, epoch=0, previous_epoch=-1, state=MemberState.STABLE, revoking={})
        change.emit(
            *consumer_records.removal_records(group.group_id, current.member_id),
            consumer_records.member_record(group.group_id, after),
            consumer_records.target_record(group.group_id, member_id, target),
            consumer_records.current_record(group.group_id, after),
        )
        change.timers.append(partial(self.sessions.stop, group.group_id, current.member_id))
        return group.members[member_id]

    # -- subscriptions

    def resolve(self, change: Change, request: Heartbeat) -> bool:
        """Resolves expressions for the member that asks. Returns whether any of them finds other topics than before."""
        group = change.group
        before = {expression: found.topics for expression, found in group.expressions.items()}
        for expression, found in self.subscriptions.resolve(group, request.may_see).items():
            change.emit(consumer_records.expression_record(group.group_id, expression, found))
        return any(found.topics != before.get(expression) for expression, found in group.expressions.items())

    def assign(self, change: Change) -> None:
        """Makes the target assignment for the group's epoch."""
        group = change.group
        for member_id, target in self.subscriptions.targets(group).items():
            if target != group.targets.get(member_id) or member_id not in group.targets:
                change.emit(consumer_records.target_record(group.group_id, member_id, target))
        change.emit(consumer_records.target_epoch_record(group.group_id, group.epoch, self.clock.wall_ms()))

    # -- leaving

    def leave(self, request: Heartbeat) -> HeartbeatAnswer | Deferred[HeartbeatAnswer]:
        group = self.groups.get(request.group_id)
        if group is None:
            raise ApiError(ErrorCode.GROUP_ID_NOT_FOUND, f"Consumer group {request.group_id} not found.")
        change = Change(group)
        member_id = request.member_id
        if request.instance_id is not None:
            current_id = group.static_members.get(request.instance_id)
            if current_id is None:
                raise ApiError(ErrorCode.UNKNOWN_MEMBER_ID, f"Instance id {request.instance_id} is unknown.")
            if current_id != member_id:
                message = f"Instance id {request.instance_id} is another member's."
                raise ApiError(ErrorCode.FENCED_INSTANCE_ID, message)
        member = group.members.get(member_id)
        if member is None:
            raise ApiError(
                ErrorCode.UNKNOWN_MEMBER_ID, f"Member {member_id} is not a member of group {group.group_id}."
            )

        def decide() -> HeartbeatAnswer:
            if request.epoch == LEAVE_STATIC_EPOCH:
                away = replace(member.at_epoch(LEAVE_STATIC_EPOCH), state=MemberState.STABLE, revoking={})
                change.emit(consumer_records.current_record(group.group_id, away))
                change.timers.append(partial(self.sessions.stop_revocation, group.group_id, member_id))
            else:
                self.remove(change, [member_id])
            return HeartbeatAnswer(ErrorCode.NONE, None, member_id, request.epoch)

        return self.commit(change, decide)

    def remove(self, change: Change, member_ids: Iterable[str]) -> None:
        """Removes members from the group, which starts a new epoch."""
        group = change.group
        for member_id in member_ids:
            change.timers.append(partial(self.sessions.stop, group.group_id, member_id))
            change.emit(*consumer_records.removal_records(group.group_id, member_id))
        if group.members and self.after_removal(change):
            return
        wanted = {member.expression for member in group.members.values()}
        for expression in [e for e in group.expressions if e not in wanted]:
            change.emit(consumer_records.expression_record(group.group_id, expression, None))
        change.emit(
            consumer_records.group_epoch_record(group.group_id, group.epoch + 1, self.subscriptions.digest(group))
        )

    # -- time

    def start_session(self, group: ConsumerGroup, member: ConsumerMember, timeout_ms: int) -> None:
        """Restarts the member's session. A member of the classic protocol has its own timeout."""
        if member.classic is not None:
            timeout_ms = member.classic.session_timeout_ms
        self.sessions.start(group.group_id, member.member_id, timeout_ms)

    def watch_revocation(self, group_id: str, member: ConsumerMember) -> None:
        """Expires a member that does not give up partitions within its rebalance timeout."""
        member_id, epoch = member.member_id, member.epoch
        if member.state is not MemberState.UNREVOKED_PARTITIONS or member.has_left_for_now:
            self.sessions.stop_revocation(group_id, member_id)
            return

        def check() -> None:
            known = self.groups.get(group_id)
            late = known.members.get(member_id) if known is not None else None
            if late is not None and late.state is MemberState.UNREVOKED_PARTITIONS and late.epoch == epoch:
                self.expire(group_id, member_id, "it did not give up its partitions in time")

        timeout_ms = member.rebalance_timeout_ms if member.rebalance_timeout_ms >= 0 else REVOCATION_TIMEOUT_MS
        self.sessions.start_revocation(group_id, member_id, timeout_ms, check)

    def session_expired(self, group_id: str, member_id: str) -> None:
        self.expire(group_id, member_id, "its session expired")

    def expire(self, group_id: str, member_id: str, reason: str) -> None:
        group = self.groups.get(group_id)
        if group is None or member_id not in group.members:
            return
        logger.info("group %s: member %s is out: %s", group_id, member_id, reason)
        change = Change(group)
        with suppress(ApiError):  # the member gets another session, and is removed when that is over
            self.commit(change, lambda: self.remove(change, [member_id]))

    def started(self) -> None:
        """Call this when all records are replayed: members then have a whole session to send a heartbeat."""
        for group in self.groups.values():
            self.start_missing_timers(group)

    def start_missing_timers(self, group: ConsumerGroup) -> None:
        """Starts the timers that members lack, because they were replayed or could not be removed."""
        limits = self.configs_of(group.group_id)
        for member in group.members.values():
            if not self.sessions.has(group.group_id, member.member_id):
                self.start_session(group, member, limits.session_timeout_ms)
            if not self.sessions.has_revocation(group.group_id, member.member_id):
                self.watch_revocation(group.group_id, member)

    def restore_timers(self, change: Change) -> None:
        """Undoes a change that was not written: the timers are again those of the group's members."""
        group = change.original
        for member_id in change.group.members:
            if member_id not in group.members:
                self.sessions.stop(group.group_id, member_id)
        self.start_missing_timers(group)

    # -- replay

    def replay(self, record: StateRecord) -> None:
        """Changes a group as the record says. Ignores a record of an unknown kind. Raises ProtocolError."""
        key = consumer_records.read_consumer_key(record.key)
        if key is None:
            return
        group_id, value = key.group_id, record.value
        if key.RECORD_TYPE == consumer_records.GroupRecordType.GROUP_EPOCH and value is None:
            self.forget(group_id)
            return
        if group_id not in self.groups:
            if value is None:
                return
            self.groups[group_id] = ConsumerGroup(group_id)
        consumer_records.replay(self.groups[group_id], key, value)

    def forget(self, group_id: str) -> None:
        group = self.groups.pop(group_id, None)
        if group is not None:
            for member_id in group.members:
                self.sessions.stop(group_id, member_id)

    def snapshot(self, belongs: Callable[[str], bool] = everything) -> Iterator[StateRecord]:
        """Records that make those groups from nothing."""
        for group_id, group in self.groups.items():
            if belongs(group_id):
                yield from consumer_records.snapshot_records(group)

    # -- for commits and fetches

    def check_commit(
        self,
        group: ConsumerGroup,
        member_id: str,
        epoch: int,
        commits: Iterable[Commit],
        *,
        knows_epochs: bool,
    ) -> ErrorCode:
        """Whether a client with this member id and epoch (-1: none) may commit these.

        A member that has not seen its newest epoch may commit the partitions that it has had since an older one (KIP-1251).
        `knows_epochs`: the request is of a version that clients of KIP-848 speak.
        """
        if epoch < 0 and not group.members:
            return ErrorCode.NONE
        member = group.members.get(member_id)
        if member is not None and member.classic is None and not knows_epochs:
            return ErrorCode.UNSUPPORTED_VERSION
        if member is not None and epoch < member.epoch and self.had_since(member, epoch, commits):
            return ErrorCode.NONE
        return self.check_member(group, member_id, epoch)

    def had_since(self, member: ConsumerMember, epoch: int, commits: Iterable[Commit]) -> bool:
        """Whether all of these partitions were assigned to the member at that epoch or before."""
        for commit in commits:
            found = self.topics.find_topic(commit.topic)
            at = None if found is None else member.assigned_at.get((found[0], commit.partition))
            if at is None or at > epoch:
                return False
        return True

    def check_member(self, group: ConsumerGroup, member_id: str, epoch: int) -> ErrorCode:
        """Whether the group has this member, at this epoch."""
        member = group.members.get(member_id)
        if member is None:
            return ErrorCode.UNKNOWN_MEMBER_ID
        if epoch != member.epoch:
            is_classic = member.classic is not None
            return ErrorCode.ILLEGAL_GENERATION if is_classic else ErrorCode.STALE_MEMBER_EPOCH
        return ErrorCode.NONE
