"""The records of KIP-848's groups in `__consumer_offsets`, as Kafka writes them (GroupCoordinatorRecordHelpers.java).

A group is told by: its epoch (3), each member's subscription (5), the target assignment's epoch (6), each member's target
(7) and current assignment (8), and the topics that a regular expression found (16). A null value removes what the key
names. Record 4 (the topics' partitions) is no longer written since Kafka 4.1; a hash in record 3 took its place.
"""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from headwater.coordinators.consumer_group import (
    Assignment,
    ClassicProtocols,
    ConsumerGroup,
    ConsumerMember,
    MemberState,
    ResolvedExpression,
)
from headwater.coordinators.group_records import StateRecord, versioned
from headwater.effects.buffers import Buffer
from headwater.protocol.compiled import decode, encode
from headwater.protocol.messages.stored_consumer_group_current_member_assignment import (
    ConsumerGroupCurrentMemberAssignmentKey,
    ConsumerGroupCurrentMemberAssignmentValue,
)
from headwater.protocol.messages.stored_consumer_group_member_metadata import (
    ConsumerGroupMemberMetadataKey,
    ConsumerGroupMemberMetadataValue,
)
from headwater.protocol.messages.stored_consumer_group_metadata import (
    ConsumerGroupMetadataKey,
    ConsumerGroupMetadataValue,
)
from headwater.protocol.messages.stored_consumer_group_regular_expression import (
    ConsumerGroupRegularExpressionKey,
    ConsumerGroupRegularExpressionValue,
)
from headwater.protocol.messages.stored_consumer_group_target_assignment_member import (
    ConsumerGroupTargetAssignmentMemberKey,
    ConsumerGroupTargetAssignmentMemberValue,
)
from headwater.protocol.messages.stored_consumer_group_target_assignment_metadata import (
    ConsumerGroupTargetAssignmentMetadataKey,
    ConsumerGroupTargetAssignmentMetadataValue,
)

GROUP_EPOCH = ConsumerGroupMetadataKey.RECORD_TYPE
KEY_CLASSES: dict[int, Any] = {
    key_class.RECORD_TYPE: key_class
    for key_class in (
        ConsumerGroupMetadataKey,
        ConsumerGroupMemberMetadataKey,
        ConsumerGroupTargetAssignmentMetadataKey,
        ConsumerGroupTargetAssignmentMemberKey,
        ConsumerGroupCurrentMemberAssignmentKey,
        ConsumerGroupRegularExpressionKey,
    )
}


def record(key: Any, value: Any | None) -> StateRecord:
    head = versioned(key.RECORD_TYPE, encode(key, 0))
    return StateRecord(head, None if value is None else versioned(0, encode(value, 0)))


def group_epoch_record(group_id: str, epoch: int | None, metadata_hash: int = 0) -> StateRecord:
    """A group's epoch, or with None the removal of the group."""
    value = None if epoch is None else ConsumerGroupMetadataValue(epoch, metadata_hash)
    return record(ConsumerGroupMetadataKey(group_id), value)


def target_epoch_record(group_id: str, epoch: int | None, timestamp: int = 0) -> StateRecord:
    value = None if epoch is None else ConsumerGroupTargetAssignmentMetadataValue(epoch, timestamp)
    return record(ConsumerGroupTargetAssignmentMetadataKey(group_id), value)


def member_record(group_id: str, member: ConsumerMember) -> StateRecord:
    """A member's subscription."""
    classic = None
    if member.classic is not None:
        protocols = [ConsumerGroupMemberMetadataValue.ClassicProtocol(*p) for p in member.classic.protocols]
        classic = ConsumerGroupMemberMetadataValue.ClassicMemberMetadata(member.classic.session_timeout_ms, protocols)
    value = ConsumerGroupMemberMetadataValue(
        member.instance_id,
        member.rack_id,
        member.client_id,
        member.client_host,
        sorted(member.topics),
        member.expression,
        member.rebalance_timeout_ms,
        member.assignor,
        classic,
    )
    return record(ConsumerGroupMemberMetadataKey(group_id, member.member_id), value)


def target_record(group_id: str, member_id: str, target: Assignment) -> StateRecord:
    topics = [
        ConsumerGroupTargetAssignmentMemberValue.TopicPartition(topic_id, sorted(parts))
        for topic_id, parts in sorted(target.items())
    ]
    value = ConsumerGroupTargetAssignmentMemberValue(topics)
    return record(ConsumerGroupTargetAssignmentMemberKey(group_id, member_id), value)


def current_record(group_id: str, member: ConsumerMember) -> StateRecord:
    """What a member has and what it is giving up."""
    topic = ConsumerGroupCurrentMemberAssignmentValue.TopicPartitions
    value = ConsumerGroupCurrentMemberAssignmentValue(
        member.epoch,
        member.previous_epoch,
        member.state,
        [topic(topic_id, sorted(parts), None) for topic_id, parts in sorted(member.assigned.items())],
        [topic(topic_id, sorted(parts), None) for topic_id, parts in sorted(member.revoking.items())],
    )
    return record(ConsumerGroupCurrentMemberAssignmentKey(group_id, member.member_id), value)


def expression_record(group_id: str, expression: str, found: ResolvedExpression | None) -> StateRecord:
    value = None
    if found is not None:
        value = ConsumerGroupRegularExpressionValue(sorted(found.topics), found.version, found.timestamp)
    return record(ConsumerGroupRegularExpressionKey(group_id, expression), value)


def removal_records(group_id: str, member_id: str) -> list[StateRecord]:
    """What removes a member."""
    return [
        record(ConsumerGroupCurrentMemberAssignmentKey(group_id, member_id), None),
        record(ConsumerGroupTargetAssignmentMemberKey(group_id, member_id), None),
        record(ConsumerGroupMemberMetadataKey(group_id, member_id), None),
    ]


def group_removal_records(group: ConsumerGroup) -> list[StateRecord]:
    """What removes a whole group."""
    records = [r for member_id in group.members for r in removal_records(group.group_id, member_id)]
    records += [expression_record(group.group_id, expression, None) for expression in group.expressions]
    return [*records, target_epoch_record(group.group_id, None), group_epoch_record(group.group_id, None)]


def snapshot_records(group: ConsumerGroup) -> Iterable[StateRecord]:
    """What makes the group from nothing."""
    group_id = group.group_id
    for member in group.members.values():
        yield member_record(group_id, member)
    yield group_epoch_record(group_id, group.epoch, group.metadata_hash)
    for expression, found in group.expressions.items():
        yield expression_record(group_id, expression, found)
    for member_id, target in group.targets.items():
        yield target_record(group_id, member_id, target)
    yield target_epoch_record(group_id, group.target_epoch)
    for member in group.members.values():
        yield current_record(group_id, member)


def read_consumer_key(key: Buffer) -> Any | None:
    """What a record of these kinds is about; None for another kind. Raises ProtocolError."""
    key_class = KEY_CLASSES.get(int.from_bytes(key[:2], "big"))
    return None if key_class is None else decode(key_class, 0, key, 2)[0]


def read_value(value_class: Any, value: Buffer) -> Any:
    return decode(value_class, int.from_bytes(value[:2], "big"), value, 2)[0]


def read_assignment(topics: Iterable[Any]) -> Assignment:
    return {topic.topic_id: frozenset(topic.partitions) for topic in topics if topic.partitions}


def replay(group: ConsumerGroup, key: Any, value: Buffer | None) -> None:
    """Takes a record about this group into its state. Raises ProtocolError for one that cannot be read."""
    match key.RECORD_TYPE:
        case 3:
            if value is not None:
                message = read_value(ConsumerGroupMetadataValue, value)
                group.epoch, group.metadata_hash = message.epoch, message.metadata_hash
        case 5:
            replay_member(group, key.member_id, value)
        case 6:
            if value is not None:
                group.target_epoch = read_value(ConsumerGroupTargetAssignmentMetadataValue, value).assignment_epoch
        case 7:
            if value is None:
                group.targets.pop(key.member_id, None)
            else:
                message = read_value(ConsumerGroupTargetAssignmentMemberValue, value)
                group.targets[key.member_id] = read_assignment(message.topic_partitions)
        case 8:
            replay_current(group, key.member_id, value)
        case 16:
            if value is None:
                group.expressions.pop(key.regular_expression, None)
            else:
                message = read_value(ConsumerGroupRegularExpressionValue, value)
                found = ResolvedExpression(frozenset(message.topics), message.version, message.timestamp)
                group.expressions[key.regular_expression] = found


def replay_member(group: ConsumerGroup, member_id: str, value: Buffer | None) -> None:
    if value is None:
        group.remove_member(member_id)
        return
    message = read_value(ConsumerGroupMemberMetadataValue, value)
    classic = None
    if message.classic_member_metadata is not None:
        metadata = message.classic_member_metadata
        protocols = tuple((p.name, bytes(p.metadata)) for p in metadata.supported_protocols)
        classic = ClassicProtocols(metadata.session_timeout_ms, protocols)
    known = group.members.get(member_id, ConsumerMember(member_id))
    changed = replace(
        known,
        instance_id=message.instance_id,
        rack_id=message.rack_id,
        client_id=message.client_id,
        client_host=message.client_host,
        topics=frozenset(message.subscribed_topic_names),
        expression=message.subscribed_topic_regex,
        rebalance_timeout_ms=message.rebalance_timeout_ms,
        assignor=message.server_assignor,
        classic=classic,
    )
    group.set_member(changed)


def replay_current(group: ConsumerGroup, member_id: str, value: Buffer | None) -> None:
    known = group.members.get(member_id)
    if known is None:
        return
    if value is None:
        none = ConsumerMember(member_id)
        epoch, previous, state = none.epoch, none.previous_epoch, none.state
        assigned, revoking = none.assigned, none.revoking
    else:
        message = read_value(ConsumerGroupCurrentMemberAssignmentValue, value)
        epoch, previous, state = message.member_epoch, message.previous_member_epoch, MemberState(message.state)
        assigned = read_assignment(message.assigned_partitions)
        revoking = read_assignment(message.partitions_pending_revocation)
    group.set_member(
        replace(known, epoch=epoch, previous_epoch=previous, state=state, assigned=assigned, revoking=revoking)
    )
