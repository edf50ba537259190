"""DeleteRecords, 0 to 2: moves a partition's log start offset up; -1 is the high watermark (KIP-107).

If an offset is written but not durable yet, the request waits for it, as for -1 (`visibility.py`): so a client whose batch
was acknowledged with acks=1 can delete its records. If that takes longer than the timeout, the answer is REQUEST_TIMED_OUT.
"""

from collections.abc import Iterator

from headwater.broker.authorization import may_topic
from headwater.broker.connection import Request
from headwater.broker.parts import LogParts
from headwater.broker.visibility import answer_when_visible
from headwater.effects.work import Steps
from headwater.protocol.error_codes import ErrorCode
from headwater.protocol.messages.delete_records import DeleteRecordsRequest, DeleteRecordsResponse
from headwater.replay.deferred import Deferred
from headwater.security.acls import Operation
from headwater.storage.log import Log
from headwater.storage.retention import Reason

PartitionResult = DeleteRecordsResponse.DeleteRecordsPartitionResult
INVALID_LOW_WATERMARK = -1
HIGH_WATERMARK = -1


def handle(broker: LogParts, request: Request) -> Steps[DeleteRecordsResponse] | Deferred[Steps[DeleteRecordsResponse]]:
    return answer_when_visible(
        broker,
        awaited_logs(broker, request),
        request.body.timeout_ms,
        lambda: delete(broker, request, is_late=False),
        lambda: delete(broker, request, is_late=True),
    )


def awaited_logs(broker: LogParts, request: Request) -> Iterator[Log]:
    """The logs with a requested offset that readers do not see yet."""
    for topic in request.body.topics:
        for wanted in topic.partitions:
            log = broker.partitions.open_log(topic.name, wanted.partition_index)
            if log is not None and (wanted.offset == HIGH_WATERMARK or wanted.offset > log.high_watermark):
                yield log


def delete(broker: LogParts, request: Request, *, is_late: bool) -> Steps[DeleteRecordsResponse]:
    body: DeleteRecordsRequest = request.body
    starts: dict[Log, int] = {}
    response = DeleteRecordsResponse()
    for topic in body.topics:
        results = []
        for partition in topic.partitions:
            results.append(check(broker, request, topic.name, partition, starts, is_late=is_late))
            yield
        response.topics.append(DeleteRecordsResponse.DeleteRecordsTopicResult(topic.name, results))
    if starts:
        try:
            broker.store.advance_start(starts, Reason.REQUEST)
        except OSError:
            for topic_result in response.topics:
                for result in topic_result.partitions:
                    result.error_code = result.error_code or ErrorCode.KAFKA_STORAGE_ERROR
    return response


def check(
    broker: LogParts,
    request: Request,
    name: str,
    wanted: DeleteRecordsRequest.DeleteRecordsPartition,
    starts: dict[Log, int],
    *,
    is_late: bool,
) -> PartitionResult:
    number = wanted.partition_index
    if not may_topic(broker, request, Operation.DELETE, name):
        return PartitionResult(number, INVALID_LOW_WATERMARK, ErrorCode.TOPIC_AUTHORIZATION_FAILED)
    topic = broker.metadata.topics.get(name)
    if topic is None or not 0 <= number < topic.partitions:
        return PartitionResult(number, INVALID_LOW_WATERMARK, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION)
    if topic.is_internal:
        return PartitionResult(number, INVALID_LOW_WATERMARK, ErrorCode.INVALID_TOPIC_EXCEPTION)
    log, error = broker.partitions.find(topic, number, endpoint=request.connection.endpoint)
    if log is None:
        return PartitionResult(number, INVALID_LOW_WATERMARK, error)
    if not log.config.delete:
        return PartitionResult(number, INVALID_LOW_WATERMARK, ErrorCode.POLICY_VIOLATION)
    end = log.end_offset if is_late else log.high_watermark
    offset = end if wanted.offset == HIGH_WATERMARK else wanted.offset
    if not 0 <= offset <= end:
        return PartitionResult(number, INVALID_LOW_WATERMARK, ErrorCode.OFFSET_OUT_OF_RANGE)
    if offset > log.high_watermark:
        return PartitionResult(number, INVALID_LOW_WATERMARK, ErrorCode.REQUEST_TIMED_OUT)
    if offset > log.start_offset:
        starts[log] = offset
    return PartitionResult(number, max(offset, log.start_offset))
