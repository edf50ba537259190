"""OffsetDelete, 0: removes positions of a group that does not consume those topics (KIP-496)."""

from typing import Any

from headwater.broker.core import BrokerCore
from headwater.broker.dispatch import Request
from headwater.effects.waits import Deferred
from headwater.protocol.error_codes import ErrorCode
from headwater.protocol.messages.offset_delete import OffsetDeleteRequest, OffsetDeleteResponse


def handle(core: BrokerCore, request: Request) -> OffsetDeleteResponse | Deferred:
    body: OffsetDeleteRequest = request.body
    keys = [(topic.name, p.partition_index) for topic in body.topics for p in topic.partitions]
    answer = core.groups.remove_offsets(body.group_id, keys)
    if not isinstance(answer, Deferred):
        return response(body, answer)
    deferred = Deferred()
    answer.when_done(lambda done: deferred.complete(response(body, done)))
    return deferred


def response(body: OffsetDeleteRequest, answer: Any) -> OffsetDeleteResponse:
    if isinstance(answer, ErrorCode):
        return OffsetDeleteResponse(error_code=answer)
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
