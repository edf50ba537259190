"""AddPartitionsToTxn, 0 to 5: adds partitions to a producer's transaction, and begins it. Answers when that is on disk.

From 4 on (between brokers, KIP-890) it handles several transactions at once, or only verifies that they have the partitions.
If one partition cannot be added, no partition is added to its transaction.
"""

from headwater.broker.authorization import may_cluster, may_topic
from headwater.broker.connection import Request
from headwater.broker.leadership import transaction_refusal
from headwater.broker.parts import TransactionParts
from headwater.effects.work import Steps
from headwater.protocol.error_codes import ErrorCode
from headwater.protocol.messages.add_partitions_to_txn import AddPartitionsToTxnRequest, AddPartitionsToTxnResponse
from headwater.replay.deferred import Deferred
from headwater.replay.sync_number import NO_SYNC, SyncNumber
from headwater.security.acls import Operation

BATCHED_VERSION, FENCED_VERSION, ABORTABLE_VERSION = 4, 2, 5
Wanted = AddPartitionsToTxnRequest.AddPartitionsToTxnTransaction
TopicResult = AddPartitionsToTxnResponse.AddPartitionsToTxnTopicResult
PartitionResult = AddPartitionsToTxnResponse.AddPartitionsToTxnPartitionResult


def handle(
    broker: TransactionParts, request: Request
) -> Steps[AddPartitionsToTxnResponse | Deferred[AddPartitionsToTxnResponse]]:
    body: AddPartitionsToTxnRequest = request.body
    if request.api_version < BATCHED_VERSION:
        wanted = Wanted(
            body.v3_and_below_transactional_id,
            body.v3_and_below_producer_id,
            body.v3_and_below_producer_epoch,
            topics=body.v3_and_below_topics,
        )
        results, sync = yield from add(broker, request, wanted)
        return broker.answer_when_durable(sync, AddPartitionsToTxnResponse(results_by_topic_v3_and_below=results))
    if not may_cluster(broker, request, Operation.CLUSTER_ACTION):
        return AddPartitionsToTxnResponse(error_code=ErrorCode.CLUSTER_AUTHORIZATION_FAILED)
    response, last_sync = AddPartitionsToTxnResponse(), NO_SYNC
    for wanted in body.transactions:
        results, sync = yield from add(broker, request, wanted)
        last_sync = max(last_sync, sync)
        response.results_by_transaction.append(
            AddPartitionsToTxnResponse.AddPartitionsToTxnResult(wanted.transactional_id, results)
        )
    return broker.answer_when_durable(last_sync, response)


def add(broker: TransactionParts, request: Request, wanted: Wanted) -> Steps[tuple[list[TopicResult], SyncNumber]]:
    """A result for each partition, and the sync of the journal that makes it durable."""
    if refused := transaction_refusal(broker, request, Operation.WRITE, wanted.transactional_id):
        return results_of(wanted, {}, refused), NO_SYNC
    partitions = list(dict.fromkeys((topic.name, number) for topic in wanted.topics for number in topic.partitions))
    yield
    if wanted.verify_only:
        return results_of(wanted, verify(broker, request, wanted, partitions), ErrorCode.NONE), NO_SYNC
    errors = {}
    for key in partitions:
        yield
        if error := refusal(broker, request, *key):
            errors[key] = error
    if errors:
        return results_of(wanted, errors, ErrorCode.OPERATION_NOT_ATTEMPTED), NO_SYNC
    error, sync = broker.transactions.add(
        wanted.transactional_id, wanted.producer_id, wanted.producer_epoch, partitions
    )
    if error is ErrorCode.PRODUCER_FENCED and request.api_version < FENCED_VERSION:
        error = ErrorCode.INVALID_PRODUCER_EPOCH
    return results_of(wanted, {}, error), sync


def verify(
    broker: TransactionParts, request: Request, wanted: Wanted, partitions: list[tuple[str, int]]
) -> dict[tuple[str, int], ErrorCode]:
    errors = {}
    for key in partitions:
        error = broker.transactions.verify(wanted.transactional_id, wanted.producer_id, wanted.producer_epoch, key)
        if error is ErrorCode.TRANSACTION_ABORTABLE and request.api_version < ABORTABLE_VERSION:
            error = ErrorCode.INVALID_TXN_STATE
        errors[key] = error
    return errors


def refusal(broker: TransactionParts, request: Request, name: str, number: int) -> ErrorCode:
    """Why a partition cannot be part of a transaction. The broker's own topics can only be added by TxnOffsetCommit."""
    topic = broker.metadata.topics.get(name)
    if (topic is not None and topic.is_internal) or not may_topic(broker, request, Operation.WRITE, name):
        return ErrorCode.TOPIC_AUTHORIZATION_FAILED
    is_known = topic is not None and 0 <= number < topic.partitions
    return ErrorCode.NONE if is_known else ErrorCode.UNKNOWN_TOPIC_OR_PARTITION


def results_of(wanted: Wanted, errors: dict[tuple[str, int], ErrorCode], for_others: ErrorCode) -> list[TopicResult]:
    return [
        TopicResult(
            topic.name,
            [PartitionResult(number, errors.get((topic.name, number), for_others)) for number in topic.partitions],
        )
        for topic in wanted.topics
    ]
