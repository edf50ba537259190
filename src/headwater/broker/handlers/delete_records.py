"""DeleteRecords, 0 to 2: moves a partition's log start offset up; -1 is the high watermark (KIP-107)."""

from headwater.broker.authorization import may_topic
from headwater.broker.core import BrokerCore
from headwater.broker.dispatch import Request
from headwater.protocol.error_codes import ErrorCode
from headwater.protocol.messages.delete_records import DeleteRecordsRequest, DeleteRecordsResponse
from headwater.security.acls import Operation
from headwater.storage.log import Log

PartitionResult = DeleteRecordsResponse.DeleteRecordsPartitionResult
INVALID_LOW_WATERMARK = -1


def handle(core: BrokerCore, request: Request) -> DeleteRecordsResponse:
    body: DeleteRecordsRequest = request.body
    starts: dict[Log, int] = {}
    response = DeleteRecordsResponse()
    for topic in body.topics:
        results = [check(core, request, topic.name, partition, starts) for partition in topic.partitions]
        response.topics.append(DeleteRecordsResponse.DeleteRecordsTopicResult(topic.name, results))
    if starts:
        try:
            core.store.advance_start(starts)
        except OSError:
            for topic_result in response.topics:
                for result in topic_result.partitions:
                    result.error_code = result.error_code or ErrorCode.KAFKA_STORAGE_ERROR
    return response


def check(
    core: BrokerCore,
    request: Request,
    name: str,
    wanted: DeleteRecordsRequest.DeleteRecordsPartition,
    starts: dict[Log, int],
) -> PartitionResult:
    number = wanted.partition_index
    if not may_topic(core, request, Operation.DELETE, name):
        return PartitionResult(number, INVALID_LOW_WATERMARK, ErrorCode.TOPIC_AUTHORIZATION_FAILED)
    topic = core.metadata.topics.get(name)
    if topic is None or not 0 <= number < topic.partitions:
        return PartitionResult(number, INVALID_LOW_WATERMARK, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION)
    if topic.is_internal:
        return PartitionResult(number, INVALID_LOW_WATERMARK, ErrorCode.INVALID_TOPIC_EXCEPTION)
    log = core.log(topic, number)
    if not log.config.delete:
        return PartitionResult(number, INVALID_LOW_WATERMARK, ErrorCode.POLICY_VIOLATION)
    offset = log.high_watermark if wanted.offset == -1 else wanted.offset
    if not 0 <= offset <= log.high_watermark:
        return PartitionResult(number, INVALID_LOW_WATERMARK, ErrorCode.OFFSET_OUT_OF_RANGE)
    if offset > log.start_offset:
        starts[log] = offset
    return PartitionResult(number, max(offset, log.start_offset))
