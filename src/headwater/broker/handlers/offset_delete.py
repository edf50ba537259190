"""OffsetDelete, 0: removes a group's committed offsets for topics that it does not consume (KIP-496)."""

from headwater.broker.authorization import may_topic
from headwater.broker.connection import Request
from headwater.broker.leadership import group_refusal
from headwater.broker.parts import GroupParts
from headwater.protocol.error_codes import ErrorCode
from headwater.protocol.messages.offset_delete import OffsetDeleteRequest, OffsetDeleteResponse
from headwater.replay.deferred import Deferred
from headwater.security.acls import Operation


def handle(broker: GroupParts, request: Request) -> OffsetDeleteResponse | Deferred[OffsetDeleteResponse]:
    body: OffsetDeleteRequest = request.body
    if error := group_refusal(broker, request, Operation.DELETE, body.group_id):
        return OffsetDeleteResponse(error_code=error)
    keys = [(topic.name, p.partition_index) for topic in body.topics for p in topic.partitions]
    refused = {key: error for key in keys if (error := refusal(broker, request, *key))}
    answer = broker.groups.remove_offsets(body.group_id, [key for key in keys if key not in refused])
    if not isinstance(answer, Deferred):
        return response(body, answer, refused)
    return answer.then(lambda done: response(body, done, refused))


def refusal(broker: GroupParts, request: Request, name: str, number: int) -> ErrorCode:
    if not may_topic(broker, request, Operation.READ, name):
        return ErrorCode.TOPIC_AUTHORIZATION_FAILED
    topic = broker.metadata.topics.get(name)
    is_known = topic is not None and 0 <= number < topic.partitions
    return ErrorCode.NONE if is_known else ErrorCode.UNKNOWN_TOPIC_OR_PARTITION


def response(
    body: OffsetDeleteRequest,
    answer: ErrorCode | dict[tuple[str, int], ErrorCode],
    refused: dict[tuple[str, int], ErrorCode],
) -> OffsetDeleteResponse:
    if isinstance(answer, ErrorCode):
        return OffsetDeleteResponse(error_code=answer)
    answer = {**answer, **refused}
    return OffsetDeleteResponse(
        topics=[
            OffsetDeleteResponse.OffsetDeleteResponseTopic(
                topic.name,
                [
                    OffsetDeleteResponse.OffsetDeleteResponsePartition(
                        p.partition_index, answer[topic.name, p.partition_index]
                    )
                    for p in topic.partitions
                ],
            )
            for topic in body.topics
        ]
    )
