"""Produce, 3 to 13 (0 to 2 are advertised for librdkafka's sake, KAFKA-18659, and close the connection, as in Kafka).

acks=all answers when the batch is on disk, acks=1 when it is in the page cache, acks=0 not at all: a failure then closes
the connection. Idempotent producers (KIP-98): a batch sent again gets its first answer, a gap
OUT_OF_ORDER_SEQUENCE_NUMBER, an old epoch INVALID_PRODUCER_EPOCH. A batch stays the bytes that the client sent, unless `compression.type` wants another compression.

Transactions (KIP-98, KIP-890): a batch's partition must be in its producer's transaction. From 12 the batch takes it in by
itself: the coordinator's record goes through the same journal, before the batch.

A producer id is no secret: every batch that a consumer reads has it. So a batch with the id of a transactional producer is
taken only from a client that may WRITE to that transactional id, and one of a transaction only in a request that names it
(CVE-2018-17196). Else a stranger could add to the transaction, or use up its sequence numbers: the producer's own batch
would then be taken for one sent again, acknowledged, and lost.
"""

from collections.abc import Iterator
from functools import partial
from typing import TypeAlias

from headwater.broker.authorization import may_topic, may_transaction
from headwater.broker.connection import Request
from headwater.broker.leadership import name_leaders
from headwater.broker.metadata import Topic
from headwater.broker.parts import ProduceParts
from headwater.broker.produce_routes import Numbers, Routable
from headwater.broker.validation import NO_DETAILS, BatchDetails, LongInspectionError, prepare, prepare_in_steps
from headwater.coordinators.transactions.transaction import EPOCH_PER_TRANSACTION
from headwater.effects.buffers import Buffer
from headwater.effects.work import Steps
from headwater.protocol.error_codes import ErrorCode
from headwater.protocol.errors import ApiError, ProtocolError
from headwater.protocol.messages.produce import ProduceRequest, ProduceResponse
from headwater.protocol.records import ATTRIBUTES_AT, MAGIC, MAGIC_AT, TRANSACTIONAL, BatchHeader, set_append_time
from headwater.replay.deferred import Deferred
from headwater.replay.sync_number import NO_SYNC, SyncNumber
from headwater.security.acls import Operation
from headwater.storage.log import Log
from headwater.storage.producers import Verdict

TOPIC_ID_VERSION, ADDS_VERSION, ABORTABLE_VERSION, LEADER_VERSION = 13, 12, 11, 10
TRANSACTIONAL_AT = ATTRIBUTES_AT + 1  # the attributes' low byte
PartitionResponse = ProduceResponse.PartitionProduceResponse
Answer: TypeAlias = ProduceResponse | Deferred[ProduceResponse] | None
Prepared: TypeAlias = tuple[BatchHeader, Buffer]


def handle(broker: ProduceParts, request: Request) -> Answer | Routable | Steps[Answer]:
    body: ProduceRequest = request.body
    if body.acks not in (-1, 0, 1):
        return refuse_all(body, ErrorCode.INVALID_REQUIRED_ACKS)
    if not may_write_transaction(broker, request):
        return refuse_all(body, ErrorCode.TRANSACTIONAL_ID_AUTHORIZATION_FAILED)
    topics = body.topic_data
    if len(topics) != 1 or len(topics[0].partition_data) != 1:
        return append_all(broker, request)
    topic_data = topics[0]
    data = topic_data.partition_data[0]
    log = None
    try:
        log = wanted_log(broker, request, topic_data, data.index)
        numbers, sync = append(broker, request, log, data.records)
        answer = PartitionResponse(data.index, 0, *numbers)
    except ApiError as error:
        answer, sync = refusal(data.index, error), NO_SYNC
    except LongInspectionError:
        return append_all(broker, request)
    responses = [ProduceResponse.TopicProduceResponse(topic_data.topic_id, topic_data.name, [answer])]
    answer_of_all = answer_by_acks(broker, request, responses, sync, has_error=answer.error_code != 0)
    if log is None or answer.error_code or body.transactional_id is not None:
        return answer_of_all
    kind = request._replace(body=ProduceRequest(None, body.acks))  # without this batch, which need not be kept
    return Routable(answer_of_all, body, kind, partial(append_another, broker, kind, log))


def append_all(broker: ProduceParts, request: Request) -> Steps[Answer]:
    """Appends the batches of several partitions. An error in one does not affect the others."""
    body: ProduceRequest = request.body
    last_sync, has_error = NO_SYNC, False
    responses = []
    for topic_data in body.topic_data:
        response = ProduceResponse.TopicProduceResponse(topic_data.topic_id, topic_data.name, [])
        responses.append(response)
        for data in topic_data.partition_data:
            try:
                answer, sync = append_or_refuse(broker, request, topic_data, data)
            except LongInspectionError:
                answer, sync = yield from append_inspected(broker, request, topic_data, data)
            response.partition_responses.append(answer)
            last_sync, has_error = max(last_sync, sync), has_error or answer.error_code != 0
            yield
    return answer_by_acks(broker, request, responses, last_sync, has_error=has_error)


def answer_by_acks(
    broker: ProduceParts,
    request: Request,
    responses: list[ProduceResponse.TopicProduceResponse],
    sync: SyncNumber,
    *,
    has_error: bool,
) -> Answer:
    """The answer that acks asks for. Raises ProtocolError for an error if it asks for none."""
    acks = request.body.acks
    if acks == 0:
        if has_error:
            raise ProtocolError("a produce request with acks=0 failed; closing tells its client")
        return None
    response = ProduceResponse(responses)
    if has_error and request.api_version >= LEADER_VERSION:
        name_leaders(broker, request, response, locate_responses(broker, responses))
    if acks == 1 or sync == NO_SYNC:
        return response
    return broker.answer_when_durable(sync, response)


def locate_responses(
    broker: ProduceParts, responses: list[ProduceResponse.TopicProduceResponse]
) -> Iterator[tuple[Topic | None, int, PartitionResponse]]:
    """Each partition's answer with its topic and number."""
    for response in responses:
        topic = broker.metadata.topics.get(response.name) or broker.metadata.by_id.get(response.topic_id)
        for answer in response.partition_responses:
            yield topic, answer.index, answer


def append_or_refuse(
    broker: ProduceParts,
    request: Request,
    topic_data: ProduceRequest.TopicProduceData,
    data: ProduceRequest.PartitionProduceData,
    prepared_batch: Prepared | None = None,
) -> tuple[PartitionResponse, SyncNumber]:
    """A partition's answer, and the sync of the journal that makes it true: 0 where nothing waits for the disk.

    Raises LongInspectionError for a batch that is to be prepared in steps.
    """
    try:
        log = wanted_log(broker, request, topic_data, data.index)
        numbers, sync = append(broker, request, log, data.records, prepared_batch)
        return PartitionResponse(data.index, 0, *numbers), sync
    except ApiError as error:
        return refusal(data.index, error), NO_SYNC


def append_inspected(
    broker: ProduceParts,
    request: Request,
    topic_data: ProduceRequest.TopicProduceData,
    data: ProduceRequest.PartitionProduceData,
) -> Steps[tuple[PartitionResponse, SyncNumber]]:
    """As `append_or_refuse`, for a batch that takes long to look at."""
    try:
        log = wanted_log(broker, request, topic_data, data.index)
        prepared_batch = yield from prepare_in_steps(log, data.records or b"", broker.clock.wall_ms())
    except ApiError as error:
        return refusal(data.index, error), NO_SYNC
    return append_or_refuse(broker, request, topic_data, data, prepared_batch)


def refusal(number: int, error: ApiError) -> PartitionResponse:
    details = error.details if isinstance(error.details, BatchDetails) else NO_DETAILS
    answer = PartitionResponse(number, error.code, -1, -1, details.log_start_offset, error_message=error.message)
    answer.record_errors = [ProduceResponse.BatchIndexAndErrorMessage(*e) for e in details.record_errors]
    return answer


def may_write_transaction(broker: ProduceParts, request: Request) -> bool:
    """Whether the request names no transaction, in its body or in a batch, or one that the client may write to."""
    body: ProduceRequest = request.body
    if body.transactional_id is not None:
        return may_transaction(broker, request, Operation.WRITE, body.transactional_id)
    for topic_data in body.topic_data:
        for data in topic_data.partition_data:
            if data.records is not None and is_transactional(data.records):
                return False
    return True


def is_transactional(batch: Buffer) -> bool:
    """Whether a batch, which was not checked yet, says that it is part of a transaction."""
    is_known = len(batch) > TRANSACTIONAL_AT and batch[MAGIC_AT] == MAGIC
    return is_known and bool(batch[TRANSACTIONAL_AT] & TRANSACTIONAL)


def refuse_all(body: ProduceRequest, code: ErrorCode) -> ProduceResponse:
    return ProduceResponse(
        [
            ProduceResponse.TopicProduceResponse(
                topic.topic_id, topic.name, [PartitionResponse(data.index, code, -1) for data in topic.partition_data]
            )
            for topic in body.topic_data
        ]
    )


def wanted_log(broker: ProduceParts, request: Request, topic_data: ProduceRequest.TopicProduceData, number: int) -> Log:
    """The log of a partition that the client may write to. Raises ApiError."""
    metadata, by_id = broker.metadata, request.api_version >= TOPIC_ID_VERSION
    topic = metadata.by_id.get(topic_data.topic_id) if by_id else metadata.topics.get(topic_data.name)
    name = topic.name if topic is not None else topic_data.name
    if not (by_id and topic is None) and not may_topic(broker, request, Operation.WRITE, name):
        raise ApiError(ErrorCode.TOPIC_AUTHORIZATION_FAILED)
    if topic is None or not 0 <= number < topic.partitions:
        missing_id = by_id and topic is None
        raise ApiError(ErrorCode.UNKNOWN_TOPIC_ID if missing_id else ErrorCode.UNKNOWN_TOPIC_OR_PARTITION)
    if topic.is_internal:
        raise ApiError(ErrorCode.INVALID_TOPIC_EXCEPTION, f"{topic.name} is written by the broker only")
    log, error_code = broker.partitions.find(topic, number, endpoint=request.connection.endpoint)
    if log is None:
        is_elsewhere = error_code == ErrorCode.NOT_LEADER_OR_FOLLOWER
        reason = "another node leads the partition" if is_elsewhere else "the partition's files cannot be read"
        raise ApiError(error_code, reason)
    return log


def append(
    broker: ProduceParts,
    request: Request,
    log: Log,
    records: Buffer | None,
    prepared_batch: Prepared | None = None,
) -> tuple[Numbers, SyncNumber]:
    """Appends a partition's batch; returns what its answer says, and the sync that makes that durable.

    Raises ApiError, and LongInspectionError unless the batch comes prepared.
    """
    if not records:
        raise ApiError(ErrorCode.INVALID_RECORD, "a produce request must have one batch for each partition")
    header, batch = prepared_batch or prepare(log, records, broker.clock.wall_ms())
    is_promised = request.body.acks != -1
    if header.producer_id >= 0:
        check_owner(broker, request, header)
        if header.is_transactional:
            join_transaction(broker, request, log, header)
        bumps = header.is_transactional and request.api_version >= ADDS_VERSION
        verdict, first = log.producers.check(header, bumps=bumps)
        if verdict is Verdict.DUPLICATE and first is not None:
            base_offset = first.last_offset - first.offset_delta
            # The first copy may still be on its way to the disk: its answer waits as long.
            sync = broker.store.journal.newest_sync if log.high_watermark <= first.last_offset else NO_SYNC
            if sync and is_promised:
                log.promised_offset = max(log.promised_offset, first.last_offset + 1)
            return (base_offset, first.timestamp, log.start_offset), sync
        if verdict is Verdict.OUT_OF_ORDER:
            raise ApiError(
                ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER, details=BatchDetails(log_start_offset=log.start_offset)
            )
        if verdict is Verdict.FENCED:
            raise ApiError(ErrorCode.INVALID_PRODUCER_EPOCH, details=BatchDetails(log_start_offset=log.start_offset))
        if not header.is_transactional and header.producer_id in log.producers.ongoing:
            raise ApiError(ErrorCode.INVALID_TXN_STATE, "a transaction is open, and the batch is not part of one")
    append_time = -1
    if log.config.log_append_time:
        append_time = broker.clock.wall_ms()
        set_append_time(memoryview(batch), append_time)
        header = header._replace(max_timestamp=append_time)
    try:
        may_gather = not is_promised and not header.attributes & TRANSACTIONAL
        base_offset, sync = broker.partitions.append(log, memoryview(batch), header, may_gather=may_gather)
    except OSError as error:
        raise ApiError(
            ErrorCode.KAFKA_STORAGE_ERROR, f"the batch could not be written: {error.strerror or error}"
        ) from error
    if sync != NO_SYNC and is_promised:
        log.promised_offset = log.end_offset
    broker.occurrences.appended.emit(log, base_offset, header.records_count, len(batch))
    return (base_offset, append_time, log.start_offset), sync


def append_another(broker: ProduceParts, request: Request, log: Log, batch: Buffer) -> tuple[Numbers, SyncNumber]:
    """Appends the batch of another request of the same kind, as `append` does (`produce_routes.py`).

    `request` has no batch and names no transaction.
    """
    prepared_batch = prepare(log, batch, broker.clock.wall_ms())
    if prepared_batch[0].attributes & TRANSACTIONAL or not broker.partitions.is_open(log):
        raise ApiError(ErrorCode.INVALID_RECORD)
    return append(broker, request, log, batch, prepared_batch)


def check_owner(broker: ProduceParts, request: Request, header: BatchHeader) -> None:
    """Raises ApiError for a producer id that belongs to another client's transactional id (CVE-2018-17196)."""
    owner = broker.transactions.owners.get(header.producer_id)
    if owner is None or owner == request.body.transactional_id:
        return  # the transactional id that is named was checked for the whole request
    if not may_transaction(broker, request, Operation.WRITE, owner):
        reason = "the producer id belongs to another transactional id"
        raise ApiError(ErrorCode.TRANSACTIONAL_ID_AUTHORIZATION_FAILED, reason)
    if header.is_transactional:
        reason = "the producer id is not the one of the transactional id"
        raise ApiError(ErrorCode.INVALID_PRODUCER_ID_MAPPING, reason)


def join_transaction(broker: ProduceParts, request: Request, log: Log, header: BatchHeader) -> None:
    """Adds the partition to the batch's transaction, or checks that it is in. Raises ApiError."""
    partition = (log.topic, log.partition)
    if log.producers.is_in_transaction(header.producer_id, header.producer_epoch):
        return  # it was checked for the transaction's first batch here
    body: ProduceRequest = request.body
    producer = (body.transactional_id or "", header.producer_id, header.producer_epoch)
    if request.api_version >= ADDS_VERSION:
        error, _ = broker.transactions.add(*producer, [partition], EPOCH_PER_TRANSACTION)
    else:
        error = broker.transactions.verify(*producer, partition)
    match error:
        case ErrorCode.NONE:
            return
        case ErrorCode.PRODUCER_FENCED:
            error = ErrorCode.INVALID_PRODUCER_EPOCH
        case ErrorCode.CONCURRENT_TRANSACTIONS | ErrorCode.COORDINATOR_NOT_AVAILABLE:
            error = ErrorCode.NOT_ENOUGH_REPLICAS  # what producers try again, as Kafka answers
        case ErrorCode.TRANSACTION_ABORTABLE if request.api_version < ABORTABLE_VERSION:
            error = ErrorCode.INVALID_TXN_STATE
    raise ApiError(error, "the partition is not part of the producer's transaction")
