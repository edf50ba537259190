"""OffsetForLeaderEpoch, 2 to 4: where an epoch ends, so that a client can detect a truncated log (KIP-320)."""

from headwater.broker.authorization import may_topic
from headwater.broker.connection import Request
from headwater.broker.parts import LogParts
from headwater.effects.work import Steps
from headwater.protocol.error_codes import ErrorCode
from headwater.protocol.messages.offset_for_leader_epoch import (
    OffsetForLeaderEpochRequest,
    OffsetForLeaderEpochResponse,
)
from headwater.security.acls import Operation

EpochEnd = OffsetForLeaderEpochResponse.EpochEndOffset


def handle(broker: LogParts, request: Request) -> Steps[OffsetForLeaderEpochResponse]:
    body: OffsetForLeaderEpochRequest = request.body
    response = OffsetForLeaderEpochResponse()
    for topic in body.topics:
        found = []
        for partition in topic.partitions:
            found.append(find(broker, request, topic.topic, partition))
            yield
        response.topics.append(OffsetForLeaderEpochResponse.OffsetForLeaderTopicResult(topic.topic, found))
    return response


def find(
    broker: LogParts, request: Request, name: str, wanted: OffsetForLeaderEpochRequest.OffsetForLeaderPartition
) -> EpochEnd:
    number = wanted.partition
    if not may_topic(broker, request, Operation.DESCRIBE, name):
        return EpochEnd(ErrorCode.TOPIC_AUTHORIZATION_FAILED, number)
    log, error = broker.partitions.find(
        broker.metadata.topics.get(name), number, wanted.current_leader_epoch, endpoint=request.connection.endpoint
    )
    if log is None:
        return EpochEnd(error, number)
    epoch, offset = log.end_offset_for_epoch(wanted.leader_epoch)
    return EpochEnd(0, number, epoch, offset)
