"""The records of KIP-848's groups in `__consumer_offsets`, as Kafka writes them (GroupCoordinatorRecordHelpers.java).

A group is described by: its epoch (3), each member's subscription (5), the target assignment's epoch (6), each member's target
(7) and current assignment (8), and the topics that a regular expression found (16). A null value removes what the key
names. Record 4 (the topics' partitions) is no longer written since Kafka 4.1; a hash in record 3 took its place.
"""

from collections.abc import Iterable
from dataclasses import replace
from enum import IntEnum
from functools import cache
from importlib import import_module
from typing import Any

from headwater.coordinators.groups.consumer.group import (
    Assignment,
    ClassicProtocols,
    ConsumerGroup,
    ConsumerMember,
    MemberState,
    ResolvedExpression,
)
from headwater.coordinators.state_records import prefix_version
from headwater.effects.buffers import Buffer
from headwater.protocol.compiled import decode, encode
from headwater.replay.state_record import StateRecord


class GroupRecordType(IntEnum):
    """The kinds of records that describe such a group."""

    GROUP_EPOCH = 3
    MEMBER = 5
    TARGET_EPOCH = 6
    TARGET = 7
    CURRENT = 8
    EXPRESSION = 16


# Imported with the first record of the kind: most brokers start without such groups.
MESSAGES: dict[int, tuple[str, str]] = {
    GroupRecordType.GROUP_EPOCH: ("stored_consumer_group_metadata", "ConsumerGroupMetadata"),
    GroupRecordType.MEMBER: ("stored_consumer_group_member_metadata", "ConsumerGroupMemberMetadata"),
    GroupRecordType.TARGET_EPOCH: (
        "stored_consumer_group_target_assignment_metadata",
        "ConsumerGroupTargetAssignmentMetadata",
    ),
    GroupRecordType.TARGET: ("stored_consumer_group_target_assignment_member", "ConsumerGroupTargetAssignmentMember"),
    GroupRecordType.CURRENT: (
        "stored_consumer_group_current_member_assignment",
        "ConsumerGroupCurrentMemberAssignment",
    ),
    GroupRecordType.EXPRESSION: ("stored_consumer_group_regular_expression", "ConsumerGroupRegularExpression"),
}


@cache
def key_class(record_type: int) -> Any:
    module, name = MESSAGES[record_type]
    return getattr(import_module(f"headwater.protocol.messages.{module}"), name + "Key")


@cache
def value_class(record_type: int) -> Any:
    module, name = MESSAGES[record_type]
    return getattr(import_module(f"headwater.protocol.messages.{module}"), name + "Value")


def record(key: Any, value: Any | None) -> StateRecord:
    head = prefix_version(key.RECORD_TYPE, encode(key, 0))
    return StateRecord(head, None if value is None else prefix_version(0, encode(value, 0)))


def group_epoch_record(group_id: str, epoch: int | None, metadata_hash: int = 0) -> StateRecord:
    """A group's epoch, or with None the removal of the group."""
    value = None if epoch is None else value_class(GroupRecordType.GROUP_EPOCH)(epoch, metadata_hash)
    return record(key_class(GroupRecordType.GROUP_EPOCH)(group_id), value)


def target_epoch_record(group_id: str, epoch: int | None, timestamp: int = 0) -> StateRecord:
    value = None if epoch is None else value_class(GroupRecordType.TARGET_EPOCH)(epoch, timestamp)
    return record(key_class(GroupRecordType.TARGET_EPOCH)(group_id), value)


def member_record(group_id: str, member: ConsumerMember) -> StateRecord:
    """A member's subscription."""
    classic = None
    if member.classic is not None:
        protocols = [value_class(GroupRecordType.MEMBER).ClassicProtocol(*p) for p in member.classic.protocols]
        classic = value_class(GroupRecordType.MEMBER).ClassicMemberMetadata(
            member.classic.session_timeout_ms, protocols
        )
    value = value_class(GroupRecordType.MEMBER)(
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
    return record(key_class(GroupRecordType.MEMBER)(group_id, member.member_id), value)


def target_record(group_id: str, member_id: str, target: Assignment) -> StateRecord:
    topics = [
        value_class(GroupRecordType.TARGET).TopicPartition(topic_id, sorted(parts))
        for topic_id, parts in sorted(target.items())
    ]
    value = value_class(GroupRecordType.TARGET)(topics)
    return record(key_class(GroupRecordType.TARGET)(group_id, member_id), value)


def current_record(group_id: str, member: ConsumerMember) -> StateRecord:
    """What a member has and what it is giving up."""
    topic = value_class(GroupRecordType.CURRENT).TopicPartitions

    def topics(assignment: Assignment) -> list[Any]:
        return [
            topic(topic_id, sorted(parts), [member.came_at((topic_id, p)) for p in sorted(parts)])
            for topic_id, parts in sorted(assignment.items())
        ]

    value = value_class(GroupRecordType.CURRENT)(
        member.epoch, member.previous_epoch, member.state, topics(member.assigned), topics(member.revoking)
    )
    return record(key_class(GroupRecordType.CURRENT)(group_id, member.member_id), value)


def expression_record(group_id: str, expression: str, found: ResolvedExpression | None) -> StateRecord:
    value = None
    if found is not None:
        value = value_class(GroupRecordType.EXPRESSION)(sorted(found.topics), found.version, found.timestamp)
    return record(key_class(GroupRecordType.EXPRESSION)(group_id, expression), value)


def removal_records(group_id: str, member_id: str) -> list[StateRecord]:
    """What removes a member."""
    return [
        record(key_class(GroupRecordType.CURRENT)(group_id, member_id), None),
        record(key_class(GroupRecordType.TARGET)(group_id, member_id), None),
        record(key_class(GroupRecordType.MEMBER)(group_id, member_id), None),
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
    yield target_epoch_record(group_id, group.target_epoch, group.target_timestamp_ms)
    for member in group.members.values():
        yield current_record(group_id, member)


def read_consumer_key(key: Buffer) -> Any | None:
    """What a record of these kinds is about; None for another kind. Raises ProtocolError."""
    record_type = int.from_bytes(key[:2], "big")
    return decode(key_class(record_type), 0, key, 2)[0] if record_type in MESSAGES else None


def read_value(record_type: int, value: Buffer) -> Any:
    return decode(value_class(record_type), int.from_bytes(value[:2], "big"), value, 2)[0]


def read_assignment(topics: Iterable[Any]) -> Assignment:
    return {topic.topic_id: frozenset(topic.partitions) for topic in topics if topic.partitions}


def replay(group: ConsumerGroup, key: Any, value: Buffer | None) -> None:
    """Applies a record about this group. Raises ProtocolError for one that cannot be read."""
    match key.RECORD_TYPE:
        case GroupRecordType.GROUP_EPOCH:
            if value is not None:
                message = read_value(GroupRecordType.GROUP_EPOCH, value)
                group.epoch, group.metadata_hash = message.epoch, message.metadata_hash
        case GroupRecordType.MEMBER:
            replay_member(group, key.member_id, value)
        case GroupRecordType.TARGET_EPOCH:
            if value is not None:
                message = read_value(GroupRecordType.TARGET_EPOCH, value)
                group.target_epoch, group.target_timestamp_ms = message.assignment_epoch, message.assignment_timestamp
        case GroupRecordType.TARGET:
            if value is None:
                group.targets.pop(key.member_id, None)
            else:
                message = read_value(GroupRecordType.TARGET, value)
                group.targets[key.member_id] = read_assignment(message.topic_partitions)
        case GroupRecordType.CURRENT:
            replay_current(group, key.member_id, value)
        case GroupRecordType.EXPRESSION:
            if value is None:
                group.expressions.pop(key.regular_expression, None)
            else:
                message = read_value(GroupRecordType.EXPRESSION, value)
                found = ResolvedExpression(frozenset(message.topics), message.version, message.timestamp)
                group.expressions[key.regular_expression] = found


def replay_member(group: ConsumerGroup, member_id: str, value: Buffer | None) -> None:
    if value is None:
        group.remove_member(member_id)
        return
    message = read_value(GroupRecordType.MEMBER, value)
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
        assigned, revoking, assigned_at = none.assigned, none.revoking, none.assigned_at
    else:
        message = read_value(GroupRecordType.CURRENT, value)
        epoch, previous, state = message.member_epoch, message.previous_member_epoch, MemberState(message.state)
        assigned = read_assignment(message.assigned_partitions)
        revoking = read_assignment(message.partitions_pending_revocation)
        assigned_at = {
            (topic.topic_id, partition): at
            for topic in (*message.assigned_partitions, *message.partitions_pending_revocation)
            for partition, at in zip(topic.partitions, topic.assignment_epochs or (), strict=False)
        }
    group.set_member(
        replace(
            known,
            epoch=epoch,
            previous_epoch=previous,
            state=state,
            assigned=assigned,
            revoking=revoking,
            assigned_at=assigned_at,
        )
    )
