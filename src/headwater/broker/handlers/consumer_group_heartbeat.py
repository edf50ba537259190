"""ConsumerGroupHeartbeat, 0 to 1: a member of KIP-848's protocol joins, subscribes, reconciles, stays alive and leaves.

In version 0 the broker makes the member id, from 1 on the client does. From 1 on a subscription may be a regular expression,
in RE2's syntax, which matches only topics that the client may describe.
"""

from functools import partial

from headwater.broker.authorization import may_topic
from headwater.broker.connection import Repeatable, Request
from headwater.broker.features import GROUP_VERSION
from headwater.broker.leadership import group_refusal
from headwater.broker.parts import GroupParts
from headwater.coordinators.groups.consumer.group import JOIN_EPOCH, Assignment
from headwater.coordinators.groups.consumer.heartbeat import Heartbeat, HeartbeatAnswer
from headwater.protocol.error_codes import ErrorCode
from headwater.protocol.messages.consumer_group_heartbeat import (
    ConsumerGroupHeartbeatRequest,
    ConsumerGroupHeartbeatResponse,
)
from headwater.replay.deferred import Deferred
from headwater.security.acls import Operation

CLIENT_MAKES_ID_VERSION = 1


def handle(
    broker: GroupParts, request: Request
) -> ConsumerGroupHeartbeatResponse | Repeatable | Deferred[ConsumerGroupHeartbeatResponse]:
    body: ConsumerGroupHeartbeatRequest = request.body
    if (error := refusal(broker, request)) is not ErrorCode.NONE:
        return ConsumerGroupHeartbeatResponse(error_code=error)
    names = body.subscribed_topic_names
    if names and not all(may_topic(broker, request, Operation.DESCRIBE, name) for name in names):
        return ConsumerGroupHeartbeatResponse(error_code=ErrorCode.TOPIC_AUTHORIZATION_FAILED)
    member_id = body.member_id
    if body.member_epoch == JOIN_EPOCH and not member_id:
        if request.api_version >= CLIENT_MAKES_ID_VERSION:
            message = "MemberId can't be empty."
            return ConsumerGroupHeartbeatResponse(error_code=ErrorCode.INVALID_REQUEST, error_message=message)
        member_id = broker.groups.membership.new_uuid()
    heartbeat = Heartbeat(
        body.group_id,
        member_id,
        body.member_epoch,
        body.instance_id,
        body.rack_id,
        body.rebalance_timeout_ms,
        None if names is None else frozenset(names),
        body.subscribed_topic_regex,
        body.server_assignor,
        owned_partitions(body),
        request.client_id or "",
        request.connection.client_host,
        lambda name: may_topic(broker, request, Operation.DESCRIBE, name),
    )
    prolonged = broker.groups.consumers.prolong_session(heartbeat)
    if prolonged is not None:
        return Repeatable(response(prolonged), partial(still_holds, broker, request, prolonged.heartbeat_interval_ms))
    answer = broker.groups.consumer_heartbeat(heartbeat)
    if isinstance(answer, HeartbeatAnswer):
        return response(answer)
    return answer.then(response)


def still_holds(broker: GroupParts, request: Request, interval_ms: int) -> bool:
    """Whether a heartbeat that was answered with only `interval_ms` gets the same answer again."""
    body: ConsumerGroupHeartbeatRequest = request.body
    return (
        refusal(broker, request) is ErrorCode.NONE
        and broker.groups.consumers.prolong(body.group_id, body.member_id, body.member_epoch) == interval_ms
    )


def refusal(broker: GroupParts, request: Request) -> ErrorCode:
    """Why the client must not take part in the group."""
    if not broker.metadata.features.get(GROUP_VERSION):
        return ErrorCode.UNSUPPORTED_VERSION
    if refused := group_refusal(broker, request, Operation.READ, request.body.group_id):
        return refused
    return ErrorCode.NONE


def owned_partitions(body: ConsumerGroupHeartbeatRequest) -> Assignment | None:
    if body.topic_partitions is None:
        return None
    return {topic.topic_id: frozenset(topic.partitions) for topic in body.topic_partitions if topic.partitions}


def response(answer: HeartbeatAnswer) -> ConsumerGroupHeartbeatResponse:
    assignment = None
    if answer.assignment is not None:
        assignment = ConsumerGroupHeartbeatResponse.Assignment(
            [
                ConsumerGroupHeartbeatResponse.TopicPartitions(topic_id, sorted(partitions))
                for topic_id, partitions in sorted(answer.assignment.items())
            ]
        )
    return ConsumerGroupHeartbeatResponse(
        error_code=answer.error,
        error_message=answer.message,
        member_id=answer.member_id,
        member_epoch=answer.epoch,
        heartbeat_interval_ms=answer.heartbeat_interval_ms,
        assignment=assignment,
    )
