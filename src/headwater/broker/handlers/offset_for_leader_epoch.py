"""OffsetForLeaderEpoch, 2 to 4: where an epoch ends, so that a client can find what was cut off (KIP-320)."""

from headwater.broker.authorization import may_topic
from headwater.broker.core import BrokerCore
from headwater.broker.dispatch import Request
from headwater.protocol.error_codes import ErrorCode
from headwater.protocol.messages.offset_for_leader_epoch import (
    OffsetForLeaderEpochRequest,
    OffsetForLeaderEpochResponse,
)
from headwater.security.acls import Operation

EpochEnd = OffsetForLeaderEpochResponse.EpochEndOffset


def handle(core: BrokerCore, request: Request) -> OffsetForLeaderEpochResponse:
    body: OffsetForLeaderEpochRequest = request.body
    return OffsetForLeaderEpochResponse(
        topics=[
            OffsetForLeaderEpochResponse.OffsetForLeaderTopicResult(
                topic.topic, [find(core, request, topic.topic, partition) for partition in topic.partitions]
            )
            for topic in body.topics
        ]
    )


def find(
    core: BrokerCore, request: Request, name: str, wanted: OffsetForLeaderEpochRequest.OffsetForLeaderPartition
) -> EpochEnd:
    number = wanted.partition
    if not may_topic(core, request, Operation.DESCRIBE, name):
        return EpochEnd(ErrorCode.TOPIC_AUTHORIZATION_FAILED, number)
    log, error = core.find_log(core.metadata.topics.get(name), number, wanted.current_leader_epoch)
    if log is None:
        return EpochEnd(error, number)
    epoch, offset = log.end_offset_for_epoch(wanted.leader_epoch)
    return EpochEnd(0, number, epoch, offset)
