"""OffsetForLeaderEpoch, 2 to 4: where an epoch ends, so that a client can find what was cut off (KIP-320)."""

from headwater.broker.core import BrokerCore
from headwater.broker.dispatch import Request
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
    log, error = core.find_log(core.metadata.topics.get(name), number, wanted.current_leader_epoch)
    if log is None:
        return EpochEnd(error, number)
    epoch, offset = log.end_offset_for_epoch(wanted.leader_epoch)
    return EpochEnd(0, number, epoch, offset)
