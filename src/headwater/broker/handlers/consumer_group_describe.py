"""ConsumerGroupDescribe, 0 to 1: groups of KIP-848's protocol, with the current and the target assignment of each member."""

from headwater.broker.authorization import authorized_operations, may_topic
from headwater.broker.connection import Request
from headwater.broker.leadership import group_refusal
from headwater.broker.parts import GroupParts
from headwater.coordinators.groups.consumer.group import Assignment, ConsumerGroup, ConsumerMember, union
from headwater.effects.work import Steps
from headwater.protocol.error_codes import ErrorCode
from headwater.protocol.messages.consumer_group_describe import (
    ConsumerGroupDescribeRequest,
    ConsumerGroupDescribeResponse,
)
from headwater.security.acls import Operation, ResourceType

DescribedGroup = ConsumerGroupDescribeResponse.DescribedGroup
CLASSIC, CONSUMER = 0, 1  # member types


def handle(broker: GroupParts, request: Request) -> Steps[ConsumerGroupDescribeResponse]:
    body: ConsumerGroupDescribeRequest = request.body
    response = ConsumerGroupDescribeResponse()
    for group_id in dict.fromkeys(body.group_ids):
        yield
        described = describe(broker, request, group_id)
        if body.include_authorized_operations and described.error_code == 0:
            described.authorized_operations = authorized_operations(broker, request, ResourceType.GROUP, group_id)
        response.groups.append(described)
    return response


def describe(broker: GroupParts, request: Request, group_id: str) -> DescribedGroup:
    if refused := group_refusal(broker, request, Operation.DESCRIBE, group_id):
        return DescribedGroup(refused, None, group_id)
    if not group_id:
        return DescribedGroup(ErrorCode.INVALID_GROUP_ID, None, group_id)
    group = broker.groups.consumers.groups.get(group_id)
    if group is None:
        is_classic = broker.groups.is_known(group_id)
        problem = "is not a consumer group" if is_classic else "not found"
        return DescribedGroup(ErrorCode.GROUP_ID_NOT_FOUND, f"Group {group_id} {problem}.", group_id)
    if not all(may_topic(broker, request, Operation.DESCRIBE, name) for name in group.subscribed_topics()):
        message = "The described group uses topics that the client is not authorized to describe."
        return DescribedGroup(ErrorCode.TOPIC_AUTHORIZATION_FAILED, message, group_id)
    return DescribedGroup(
        0,
        None,
        group_id,
        group.state.value,
        group.epoch,
        group.target_epoch,
        group.assignor or broker.groups.consumers.limits.assignors[0],
        [describe_member(broker, group, member) for member in group.members.values()],
    )


def describe_member(
    broker: GroupParts, group: ConsumerGroup, member: ConsumerMember
) -> ConsumerGroupDescribeResponse.Member:
    return ConsumerGroupDescribeResponse.Member(
        member.member_id,
        member.instance_id,
        member.rack_id,
        member.epoch,
        member.client_id,
        member.client_host,
        sorted(member.topics),
        member.expression or "",
        described_assignment(
            broker, union(member.assigned, member.revoking)
        ),  # including what it has not given back yet
        described_assignment(broker, group.targets.get(member.member_id, {})),
        CONSUMER if member.classic is None else CLASSIC,
    )


def described_assignment(broker: GroupParts, assignment: Assignment) -> ConsumerGroupDescribeResponse.Assignment:
    topics = []
    for topic_id, partitions in sorted(assignment.items()):
        topic = broker.metadata.by_id.get(topic_id)
        if topic is not None:
            topics.append(ConsumerGroupDescribeResponse.TopicPartitions(topic_id, topic.name, sorted(partitions)))
    return ConsumerGroupDescribeResponse.Assignment(topics)
