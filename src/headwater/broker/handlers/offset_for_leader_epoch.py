"""OffsetForLeaderEpoch, 2 to 4: where an epoch ends, so that a client can find what was cut off (KIP-320)."""

from headwater.broker.core import BrokerCore
from headwater.broker.dispatch import Request
from headwater.protocol.error_codes import ErrorCode
from headwater.protocol.messages.offset_for_leader_epoch import (
    OffsetForLeaderEpochRequest,
    OffsetForLeaderEpochResponse,
)

EpochEnd = OffsetForLeaderEpochResponse.EpochEndOffset


def handle(core: BrokerCore, request: Request) -> OffsetForLeaderEpochResponse:
    body: OffsetForLeaderEpochRequest = request.body
    return OffsetForLeaderEpochResponse(
        topics=[
            OffsetForLeaderEpochResponse.OffsetForLeaderTopicResult(
                topic.topic, [find(core, topic.topic, partition) for partition in topic.partitions]
            )
            for topic in body.topics
        ]
    )


def find(core: BrokerCore, name: str, wanted: OffsetForLeaderEpochRequest.OffsetForLeaderPartition) -> EpochEnd:
    number = wanted.partition
    topic = core.metadata.topics.get(name)
    if topic is None or not 0 <= number < topic.partitions:
        return EpochEnd(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, number)
    log = core.log(topic, number)
    current = wanted.current_leader_epoch
    if current >= 0 and current != log.leader_epoch:
        fenced = current < log.leader_epoch
        return EpochEnd(ErrorCode.FENCED_LEADER_EPOCH if fenced else ErrorCode.UNKNOWN_LEADER_EPOCH, number)
    epoch, offset = log.end_offset_for_epoch(wanted.leader_epoch)
    return EpochEnd(0, number, epoch, offset)
