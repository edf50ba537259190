"""ListOffsets, 1 to 11: offsets by time.

-1 is the latest (the high watermark, or the last stable offset for read_committed), -2 the earliest, -3 the record with the
greatest timestamp (KIP-734), -4 the earliest local one (KIP-405: the same as the earliest, as nothing is tiered), -5 the
latest tiered one (none), -6 the earliest pending upload (none). Any other value is a timestamp: the first record at or after
it.

All but the earliest offsets wait until everything that the log had when the request arrived is durable, and so visible: a
client whose batch was acknowledged with acks=1 finds its records (`visibility.py`).
"""

from collections.abc import Callable, Iterator

from headwater.broker.authorization import may_topic
from headwater.broker.connection import Request
from headwater.broker.parts import LogParts
from headwater.broker.visibility import WAIT_MS_MAX, answer_when_visible
from headwater.effects.work import Steps
from headwater.protocol.error_codes import ErrorCode
from headwater.protocol.messages.list_offsets import ListOffsetsRequest, ListOffsetsResponse
from headwater.protocol.special_timestamps import SpecialTimestamp
from headwater.replay.deferred import Deferred
from headwater.security.acls import Operation
from headwater.storage.log import Log
from headwater.storage.lookups import find_max_timestamp, find_timestamp

# The lowest version in which each special timestamp has its meaning.
SPECIAL_SINCE: dict[int, int] = {
    SpecialTimestamp.LATEST: 0,
    SpecialTimestamp.EARLIEST: 0,
    SpecialTimestamp.MAX_TIMESTAMP: 7,
    SpecialTimestamp.EARLIEST_LOCAL: 8,
    SpecialTimestamp.LATEST_TIERED: 9,
    SpecialTimestamp.EARLIEST_PENDING_UPLOAD: 11,
}
INDEPENDENT_OF_END = frozenset(
    {
        SpecialTimestamp.EARLIEST,
        SpecialTimestamp.EARLIEST_LOCAL,
        SpecialTimestamp.LATEST_TIERED,
        SpecialTimestamp.EARLIEST_PENDING_UPLOAD,
    }
)
ENDS = INDEPENDENT_OF_END | {SpecialTimestamp.LATEST}
TIMEOUT_VERSION = 10
READ_COMMITTED = 1
DEBUGGING_REPLICA = -2  # asks any node that has the partition
PartitionResponse = ListOffsetsResponse.ListOffsetsPartitionResponse
WantedPartition = ListOffsetsRequest.ListOffsetsPartition


def handle(broker: LogParts, request: Request) -> Steps[ListOffsetsResponse] | Deferred[Steps[ListOffsetsResponse]]:
    body: ListOffsetsRequest = request.body
    has_timeout = request.api_version >= TIMEOUT_VERSION and body.timeout_ms > 0

    def answer() -> Steps[ListOffsetsResponse]:
        return respond(broker, request, lambda name, wanted: find(broker, request, name, wanted))

    def answer_after_timeout() -> Steps[ListOffsetsResponse]:
        return respond(broker, request, lambda name, wanted: late(wanted))

    timeout_ms = body.timeout_ms if has_timeout else WAIT_MS_MAX
    return answer_when_visible(broker, awaited_logs(broker, request), timeout_ms, answer, answer_after_timeout)


def awaited_logs(broker: LogParts, request: Request) -> Iterator[Log]:
    """The logs whose ends the answer depends on."""
    for topic in request.body.topics:
        for wanted in topic.partitions:
            log = broker.partitions.open_log(topic.name, wanted.partition_index)
            if log is not None and wanted.timestamp not in INDEPENDENT_OF_END:
                yield log


def respond(
    broker: LogParts, request: Request, find_offset: Callable[[str, WantedPartition], Steps[PartitionResponse]]
) -> Steps[ListOffsetsResponse]:
    body: ListOffsetsRequest = request.body
    response = ListOffsetsResponse()
    for topic in body.topics:
        if may_topic(broker, request, Operation.DESCRIBE, topic.name):
            found = []
            for wanted in topic.partitions:
                answer = yield from find_offset(topic.name, wanted)
                found.append(answer)
        else:
            failed = ErrorCode.TOPIC_AUTHORIZATION_FAILED
            found = [PartitionResponse(p.partition_index, failed) for p in topic.partitions]
        response.topics.append(ListOffsetsResponse.ListOffsetsTopicResponse(topic.name, found))
    return response


def late(wanted: WantedPartition) -> Steps[PartitionResponse]:
    yield
    return PartitionResponse(wanted.partition_index, ErrorCode.REQUEST_TIMED_OUT)


def find(broker: LogParts, request: Request, name: str, wanted: WantedPartition) -> Steps[PartitionResponse]:
    yield
    number = wanted.partition_index
    timestamp = wanted.timestamp
    committed = request.body.isolation_level == READ_COMMITTED
    if timestamp < 0 and request.api_version < SPECIAL_SINCE.get(timestamp, 99):
        return PartitionResponse(number, ErrorCode.UNSUPPORTED_VERSION)
    try:
        log, error = broker.partitions.find(
            broker.metadata.topics.get(name),
            number,
            wanted.current_leader_epoch,
            endpoint=request.connection.endpoint,
            from_follower=request.body.replica_id == DEBUGGING_REPLICA,
        )
        if log is None:
            return PartitionResponse(number, error)
        end = log.last_stable_offset if committed else log.high_watermark
        match timestamp:
            case SpecialTimestamp.LATEST:
                found, offset = -1, end
            case SpecialTimestamp.EARLIEST | SpecialTimestamp.EARLIEST_LOCAL:
                found, offset = -1, log.start_offset
            case SpecialTimestamp.LATEST_TIERED | SpecialTimestamp.EARLIEST_PENDING_UPLOAD:
                return PartitionResponse(number, 0, -1, -1, -1)
            case SpecialTimestamp.MAX_TIMESTAMP:
                found, offset = yield from find_max_timestamp(log)
            case _:
                found, offset = yield from find_timestamp(log, timestamp)
        if timestamp not in ENDS and offset >= end:
            found = offset = -1
    except OSError:
        return PartitionResponse(number, ErrorCode.KAFKA_STORAGE_ERROR)
    leader_epoch = log.leader_epoch if offset >= 0 else -1
    return PartitionResponse(number, 0, found, offset, leader_epoch)
