"""ListOffsets, 1 to 11: offsets by time.

-1 latest (the high watermark, or the last stable offset for read_committed), -2 earliest, -3 the record with the greatest timestamp (KIP-734), -4 earliest local
(KIP-405: the earliest, as nothing is tiered), -5 latest tiered (none), -6 earliest pending upload (none). Else the first
record at or after the timestamp.
"""

from headwater.broker.authorization import may_topic
from headwater.broker.core import BrokerCore
from headwater.broker.dispatch import Request
from headwater.protocol.error_codes import ErrorCode
from headwater.protocol.errors import ProtocolError
from headwater.protocol.messages.list_offsets import ListOffsetsRequest, ListOffsetsResponse
from headwater.security.acls import Operation

LATEST, EARLIEST, MAX_TIMESTAMP, EARLIEST_LOCAL, LATEST_TIERED, EARLIEST_PENDING_UPLOAD = -1, -2, -3, -4, -5, -6
# The lowest version in which each special timestamp has its meaning.
SPECIAL_SINCE = {
    LATEST: 0,
    EARLIEST: 0,
    MAX_TIMESTAMP: 7,
    EARLIEST_LOCAL: 8,
    LATEST_TIERED: 9,
    EARLIEST_PENDING_UPLOAD: 11,
}
READ_COMMITTED = 1
PartitionResponse = ListOffsetsResponse.ListOffsetsPartitionResponse


def handle(core: BrokerCore, request: Request) -> ListOffsetsResponse:
    body: ListOffsetsRequest = request.body
    committed = body.isolation_level == READ_COMMITTED
    response = ListOffsetsResponse()
    for topic in body.topics:
        if may_topic(core, request, Operation.DESCRIBE, topic.name):
            found = [find(core, request.api_version, topic.name, p, committed=committed) for p in topic.partitions]
        else:
            failed = ErrorCode.TOPIC_AUTHORIZATION_FAILED
            found = [PartitionResponse(p.partition_index, failed) for p in topic.partitions]
        response.topics.append(ListOffsetsResponse.ListOffsetsTopicResponse(topic.name, found))
    return response


def find(
    core: BrokerCore, version: int, name: str, wanted: ListOffsetsRequest.ListOffsetsPartition, *, committed: bool
) -> PartitionResponse:
    number = wanted.partition_index
    timestamp = wanted.timestamp
    if timestamp < 0 and version < SPECIAL_SINCE.get(timestamp, 99):
        return PartitionResponse(number, ErrorCode.UNSUPPORTED_VERSION)
    log, error = core.find_log(core.metadata.topics.get(name), number, wanted.current_leader_epoch)
    if log is None:
        return PartitionResponse(number, error)
    try:
        match timestamp:
            case -1:
                found, offset = -1, log.last_stable_offset if committed else log.high_watermark
            case -2 | -4:
                found, offset = -1, log.start_offset
            case -5 | -6:
                return PartitionResponse(number, 0, -1, -1, -1)
            case -3:
                found, offset = log.max_timestamp()
            case _:
                found, offset = log.offset_for_timestamp(timestamp)
                if committed and offset >= log.last_stable_offset:
                    found = offset = -1
    except (OSError, ProtocolError):
        return PartitionResponse(number, ErrorCode.KAFKA_STORAGE_ERROR)
    leader_epoch = log.leader_epoch if offset >= 0 else -1
    return PartitionResponse(number, 0, found, offset, leader_epoch)
