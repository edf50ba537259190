"""Groups with members of both protocols, and groups that change their protocol while members run (KIP-848).

    classic group ──the first member of the new protocol joins──▶ consumer group ──its last such member leaves──▶ classic

In a consumer group, a member of the classic protocol sees only that protocol: its epoch is the generation, a JoinGroup is
answered at once, SyncGroup returns what the server's assignor assigned, and a heartbeat with REBALANCE_IN_PROGRESS makes it
join again whenever it has to give up partitions or can get some. `group.consumer.migration.policy` says which of the two
changes are allowed. Sources: GroupMetadataManager.java (convertToConsumerGroup, consumerGroupJoin),
ClassicGroup.fromConsumerGroup.
"""

from collections.abc import Collection, Iterable
from dataclasses import replace

from headwater.coordinators.groups.classic.group import Group, JoinAnswer, Member, SyncAnswer
from headwater.coordinators.groups.classic.membership import JoinRequest, Membership, SyncRequest
from headwater.coordinators.groups.consumer import records as consumer_records
from headwater.coordinators.groups.consumer.coordinator import Change, ConsumerGroups
from headwater.coordinators.groups.consumer.group import (
    Assignment,
    ClassicProtocols,
    ConsumerGroup,
    ConsumerMember,
    MemberState,
)
from headwater.coordinators.groups.records import group_record
from headwater.coordinators.state_records import append_error
from headwater.effects.logs import get_logger
from headwater.protocol.compiled import decode, encode
from headwater.protocol.error_codes import ErrorCode
from headwater.protocol.errors import ApiError, ProtocolError
from headwater.replay.decision import Runtime
from headwater.replay.deferred import Deferred
from headwater.replay.state_record import StateRecord

logger = get_logger(__name__)

CONSUMER = "consumer"
EMBEDDED_VERSION_MAX = 3


class Migration:
    """See the module's docstring. Works on the groups of both protocols."""

    def __init__(
        self, membership: Membership, consumers: ConsumerGroups, runtime: Runtime[StateRecord], policy: str
    ) -> None:
        self.membership = membership
        self.consumers = consumers
        self.runtime = runtime  # shared by both protocols: a change of protocol has records of both
        self.may_upgrade = policy in ("upgrade", "bidirectional")
        self.may_downgrade = policy in ("downgrade", "bidirectional")

    # -- classic to consumer

    def upgrade(self, group_id: str) -> None:
        """Prepares a classic group for a member of the new protocol: removes it if it is empty, or converts it.

        Raises ApiError if that is not possible.
        """
        classic = self.membership.groups.get(group_id)
        if classic is None:
            return
        records = [group_record(group_id, None)]
        if classic.members or classic.pending:
            self.check_upgrade(classic)
            records += self.convert(classic)
        try:
            self.runtime.apply(group_id, records)  # members that wait for the classic group have to join again
        except OSError as error:
            logger.error("group %s cannot be written: %s", group_id, error)
            raise ApiError(append_error(error), str(error)) from error
        logger.info("group %s is now a consumer group", group_id)
        group = self.consumers.groups.get(group_id)
        if group is not None:
            self.consumers.start_missing_timers(group)

    def check_upgrade(self, classic: Group) -> None:
        if not self.may_upgrade or classic.protocol_type != CONSUMER:
            message = f"Group {classic.group_id} is not a consumer group."
            raise ApiError(ErrorCode.GROUP_ID_NOT_FOUND, message)
        if len(classic.members) >= self.consumers.limits.size_max:
            raise ApiError(ErrorCode.GROUP_MAX_SIZE_REACHED, "The consumer group has reached its maximum capacity.")

    def convert(self, classic: Group) -> list[StateRecord]:
        """The records of the converted group. Its target is what its members have now."""
        group_id, generation = classic.group_id, max(0, classic.generation)
        change = Change(ConsumerGroup(group_id))
        members = []
        for m in classic.members.values():
            try:
                topics, _ = read_subscription(m.protocols[0][1])
                assigned = self.by_topic_id(read_assignment(m.assignment))
            except (ProtocolError, IndexError) as error:
                message = f"Group {group_id} cannot be converted: {error}"
                raise ApiError(ErrorCode.INCONSISTENT_GROUP_PROTOCOL, message) from error
            members.append(
                ConsumerMember(
                    m.member_id,
                    m.instance_id,
                    None,
                    m.client_id,
                    m.client_host,
                    topics,
                    None,
                    m.rebalance_timeout_ms,
                    None,
                    ClassicProtocols(m.session_timeout_ms, tuple(m.protocols)),
                    generation,
                    generation,
                    MemberState.STABLE,
                    assigned,
                )
            )
        change.emit(*(consumer_records.member_record(group_id, member) for member in members))
        change.emit(
            consumer_records.group_epoch_record(group_id, generation, self.consumers.subscriptions.digest(change.group))
        )
        change.emit(
            *(consumer_records.target_record(group_id, member.member_id, member.assigned) for member in members)
        )
        change.emit(consumer_records.target_epoch_record(group_id, generation))
        change.emit(*(consumer_records.current_record(group_id, member) for member in members))
        return change.records

    def by_topic_id(self, assigned: Iterable[tuple[str, Collection[int]]]) -> Assignment:
        found: dict[bytes, frozenset[int]] = {}
        for name, partitions in assigned:
            topic = self.consumers.topics.find_topic(name)
            if topic is not None and partitions:
                found[topic[0]] = frozenset(partitions)
        return found

    # -- consumer to classic

    def downgrade(self, change: Change) -> bool:
        """Makes a group classic if, after a removal, only members of the classic protocol are left."""
        group = change.group
        if not self.may_downgrade or any(member.classic is None for member in group.members.values()):
            return False
        classic = Group(group.group_id, protocol_type=CONSUMER, generation=group.epoch)
        for m in group.members.values():
            assert m.classic is not None
            member = Member(
                m.member_id,
                m.instance_id,
                m.client_id,
                m.client_host,
                m.classic.session_timeout_ms,
                m.rebalance_timeout_ms,
                list(m.classic.protocols),
                assignment=self.encoded_assignment(m.classic.protocols[0][1], m.assigned),
                is_new=False,
            )
            classic.add(member)
        classic.protocol = classic.select_protocol()
        assignments = {member.member_id: member.assignment for member in classic.members.values()}
        removal = consumer_records.group_removal_records(group)
        after = group_record(group.group_id, classic.to_value(assignments))
        change.end_group(*removal, after, then=lambda: self.downgraded(classic))
        return True

    def downgraded(self, classic: Group) -> None:
        """Starts the sessions of the members of a group that became classic, and makes them join."""
        logger.info("group %s is a classic group again", classic.group_id)
        group = self.membership.groups[classic.group_id]
        for member in group.members.values():
            member.protocols = classic.members[member.member_id].protocols
            self.membership.touch(group, member)
        self.membership.rebalance(group, "its last member of the new protocol has left")

    def encoded_assignment(self, subscription: bytes, assigned: Assignment) -> bytes:
        """The assignment for SyncGroup, in the version of the member's subscription."""
        from headwater.protocol.messages.embedded import ConsumerProtocolAssignment

        version = min(max(int.from_bytes(subscription[:2], "big", signed=True), 0), EMBEDDED_VERSION_MAX)
        topics = [
            ConsumerProtocolAssignment.TopicPartition(name, sorted(partitions))
            for topic_id, partitions in assigned.items()
            if (name := self.consumers.topics.topic_name(topic_id)) is not None
        ]
        message = ConsumerProtocolAssignment(sorted(topics, key=lambda topic: topic.topic))
        return version.to_bytes(2, "big") + encode(message, version)

    # -- members of the classic protocol in a consumer group

    def join(self, group: ConsumerGroup, request: JoinRequest) -> JoinAnswer | Deferred[JoinAnswer]:
        """JoinGroup: answers with a JoinAnswer."""
        limits = self.membership.limits
        if not limits.session_timeout_ms_min <= request.session_timeout_ms <= limits.session_timeout_ms_max:
            return JoinAnswer(ErrorCode.INVALID_SESSION_TIMEOUT, request.member_id)
        protocol = self.common_protocol(group, request)
        if request.protocol_type != CONSUMER or protocol is None:
            return JoinAnswer(ErrorCode.INCONSISTENT_GROUP_PROTOCOL, request.member_id)
        member_id = request.member_id
        if not member_id:
            prefix = request.instance_id if request.instance_id is not None else request.client_id
            member_id = f"{prefix}-{self.membership.new_uuid()}"
            if request.instance_id is None and request.may_need_member_id:
                return JoinAnswer(ErrorCode.MEMBER_ID_REQUIRED, member_id)
        elif member_id not in group.members and request.instance_id is not None:
            return JoinAnswer(ErrorCode.UNKNOWN_MEMBER_ID, member_id)
        change = Change(group)
        try:
            return self.consumers.commit(change, lambda: self.join_answer(change, request, member_id, protocol))
        except ApiError as error:
            return JoinAnswer(error.code, member_id)
        except ProtocolError:
            return JoinAnswer(ErrorCode.INCONSISTENT_GROUP_PROTOCOL, member_id)

    def common_protocol(self, group: ConsumerGroup, request: JoinRequest) -> str | None:
        """The member's first protocol that all members of the classic protocol have."""
        names = [name for name, _ in request.protocols]
        for member in group.members.values():
            if member.classic is not None and member.member_id != request.member_id:
                others = {name for name, _ in member.classic.protocols}
                names = [name for name in names if name in others]
        return names[0] if names else None

    def join_answer(self, change: Change, request: JoinRequest, member_id: str, protocol: str) -> JoinAnswer:
        group, consumers = change.group, self.consumers
        topics, owned_names = read_subscription(request.protocols[0][1])
        known = group.members.get(member_id)
        if known is None and request.instance_id is not None and request.instance_id in group.static_members:
            current = group.members[group.static_members[request.instance_id]]
            known = consumers.replace_static(change, current, member_id)
        is_new = known is None
        if known is None:
            consumers.check_size(group)
            known = ConsumerMember(member_id, request.instance_id)
        updated = replace(
            known,
            client_id=request.client_id,
            client_host=request.client_host,
            topics=topics,
            expression=None,
            rebalance_timeout_ms=request.rebalance_timeout_ms,
            classic=ClassicProtocols(request.session_timeout_ms, tuple(request.protocols)),
        )
        if updated != known or is_new:
            change.emit(consumer_records.member_record(group.group_id, updated))
        subscribes = is_new or updated.topics != known.topics
        consumers.bump(change, needs_epoch=subscribes)
        member = consumers.reconcile(change, member_id, self.by_topic_id(owned_names), subscribes=subscribes)
        consumers.start_session(group, member, request.session_timeout_ms)
        return JoinAnswer(ErrorCode.NONE, member_id, member.epoch, CONSUMER, protocol)

    def member(
        self, group: ConsumerGroup, member_id: str, instance_id: str | None, generation: int | None
    ) -> tuple[ConsumerMember | None, ErrorCode]:
        """The member of the classic protocol that sent a request, or an error."""
        if instance_id is not None:
            current_id = group.static_members.get(instance_id)
            if current_id is None:
                return None, ErrorCode.UNKNOWN_MEMBER_ID
            if member_id and current_id != member_id:
                return None, ErrorCode.FENCED_INSTANCE_ID
            member_id = current_id
        member = group.members.get(member_id)
        if member is None or (generation is not None and member.classic is None):
            return None, ErrorCode.UNKNOWN_MEMBER_ID
        if generation is not None and generation != member.epoch:
            return None, ErrorCode.ILLEGAL_GENERATION
        return member, ErrorCode.NONE

    def sync(self, group: ConsumerGroup, request: SyncRequest) -> SyncAnswer:
        """SyncGroup."""
        member, error = self.member(group, request.member_id, request.instance_id, request.generation)
        if member is None:
            return SyncAnswer(error)
        protocol_type, protocol = request.protocol_type, request.protocol
        assert member.classic is not None
        names = [name for name, _ in member.classic.protocols]
        if protocol_type not in (None, CONSUMER) or (protocol is not None and protocol not in names):
            return SyncAnswer(ErrorCode.INCONSISTENT_GROUP_PROTOCOL)
        if group.target_epoch > member.epoch and member.state is not MemberState.UNREVOKED_PARTITIONS:
            return SyncAnswer(ErrorCode.REBALANCE_IN_PROGRESS)
        self.consumers.start_session(group, member, 0)
        assignment = self.encoded_assignment(member.classic.protocols[0][1], member.assigned)
        return SyncAnswer(ErrorCode.NONE, assignment, CONSUMER, protocol or names[0])

    def heartbeat(self, group: ConsumerGroup, member_id: str, instance_id: str | None, generation: int) -> ErrorCode:
        """Heartbeat: makes the member join again if its next step needs that."""
        member, error = self.member(group, member_id, instance_id, generation)
        if member is None:
            return error
        self.consumers.start_session(group, member, 0)
        subscribed = self.consumers.subscriptions.topic_ids(group, member)
        following = group.reconcile(member, {}, subscribed, subscribes=False)
        can_get_more = member.state is MemberState.UNRELEASED_PARTITIONS and following.assigned != member.assigned
        must_join = (
            member.epoch < group.target_epoch or member.state is MemberState.UNREVOKED_PARTITIONS or can_get_more
        )
        return ErrorCode.REBALANCE_IN_PROGRESS if must_join else ErrorCode.NONE

    def leave(self, group: ConsumerGroup, leaving: Iterable[tuple[str, str | None]]) -> list[ErrorCode]:
        """LeaveGroup: removes the named members, of either protocol. Returns an error for each."""
        results, members = [], []
        for member_id, instance_id in leaving:
            member, error = self.member(group, member_id, instance_id, None)
            results.append(error)
            if member is not None:
                members.append(member.member_id)
        if members:
            change = Change(group)
            try:
                self.consumers.commit(change, lambda: self.consumers.remove(change, members))
            except ApiError as failure:
                return [failure.code for _ in results]
        return results


def read_subscription(metadata: bytes) -> tuple[frozenset[str], list[tuple[str, list[int]]]]:
    """The topics that a classic consumer subscribes to, and the partitions that it says it has. Raises ProtocolError."""
    from headwater.protocol.messages.embedded import ConsumerProtocolSubscription

    message = decode(ConsumerProtocolSubscription, embedded_version(metadata), metadata, 2)[0]
    return frozenset(message.topics), [(owned.topic, owned.partitions) for owned in message.owned_partitions]


def read_assignment(assignment: bytes) -> list[tuple[str, list[int]]]:
    """The partitions of a classic consumer. Raises ProtocolError."""
    if not assignment:
        return []
    from headwater.protocol.messages.embedded import ConsumerProtocolAssignment

    message = decode(ConsumerProtocolAssignment, embedded_version(assignment), assignment, 2)[0]
    return [(topic.topic, topic.partitions) for topic in message.assigned_partitions]


def embedded_version(data: bytes) -> int:
    if len(data) < 2:
        raise ProtocolError("a member's subscription or assignment is not a consumer's")
    version = int.from_bytes(data[:2], "big", signed=True)
    if version < 0:
        raise ProtocolError(f"a subscription has version {version}")
    return min(version, EMBEDDED_VERSION_MAX)
