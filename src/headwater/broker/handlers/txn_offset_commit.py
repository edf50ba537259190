"""TxnOffsetCommit, 0 to 6: commits a group's offsets when the producer's transaction commits.

From 3 on the consumer's generation, member and instance are checked (KIP-447). From 5 on this request itself adds the
group's partition to the transaction (KIP-890). From 6 on topics have ids (KIP-1319).
"""

from headwater.broker.authorization import may_transaction
from headwater.broker.connection import Request
from headwater.broker.handlers.offset_commit import COMMITS_PER_STEP, Errors, check_commits, topic_names
from headwater.broker.leadership import group_refusal
from headwater.broker.parts import TransactionOffsetParts
from headwater.coordinators.transactions.transaction import EPOCH_PER_TRANSACTION
from headwater.effects.work import Steps
from headwater.protocol.error_codes import ErrorCode
from headwater.protocol.errors import ApiError
from headwater.protocol.messages.txn_offset_commit import TxnOffsetCommitRequest, TxnOffsetCommitResponse
from headwater.replay.deferred import Deferred
from headwater.security.acls import Operation

ABORTABLE_VERSION, ADDS_VERSION, TOPIC_ID_VERSION = 4, 5, 6
PartitionResponse = TxnOffsetCommitResponse.TxnOffsetCommitResponsePartition
TopicResponse = TxnOffsetCommitResponse.TxnOffsetCommitResponseTopic


def handle(
    broker: TransactionOffsetParts, request: Request
) -> Steps[TxnOffsetCommitResponse | Deferred[TxnOffsetCommitResponse]]:
    body: TxnOffsetCommitRequest = request.body
    names = topic_names(broker, body.topics, by_id=request.api_version >= TOPIC_ID_VERSION)
    if not may_transaction(broker, request, Operation.WRITE, body.transactional_id):
        return response(body, names, {}, ErrorCode.TRANSACTIONAL_ID_AUTHORIZATION_FAILED)
    if refused := group_refusal(broker, request, Operation.READ, body.group_id):
        return response(body, names, {}, refused)
    errors, commits = yield from check_commits(broker, request, names)
    error = take_into_transaction(broker, request) if commits else ErrorCode.NONE
    if error is ErrorCode.NONE:
        error = broker.groups.check_commit(
            body.group_id,
            body.generation_id_or_member_epoch,
            body.member_id,
            body.group_instance_id,
            commits,
            in_transaction=True,
        )
    if error is not ErrorCode.NONE or not commits:
        return response(body, names, errors, error)
    last: Deferred[Errors] | None = None
    for at in range(0, len(commits), COMMITS_PER_STEP):
        if at and (error := take_into_transaction(broker, request)) is not ErrorCode.NONE:
            return response(body, names, {}, error)  # the transaction has ended since the previous step
        part, producer = commits[at : at + COMMITS_PER_STEP], (body.producer_id, body.producer_epoch)
        if (error := broker.coordination.check_producer(body.group_id, *producer)) is not ErrorCode.NONE:
            return response(body, names, {}, error)
        answer = broker.groups.commit_pending(body.group_id, part, *producer)
        if isinstance(answer, dict):
            errors |= answer
        else:
            answer.when_done(errors.update)
            last = answer
        yield
    if last is None:
        return response(body, names, errors, ErrorCode.NONE)
    return last.then(lambda done: response(body, names, errors | done, ErrorCode.NONE))


def take_into_transaction(broker: TransactionOffsetParts, request: Request) -> ErrorCode:
    """Adds the group's partition, or checks that it was added. The addition is in the journal before the offsets."""
    body: TxnOffsetCommitRequest = request.body
    producer = (body.transactional_id, body.producer_id, body.producer_epoch)
    try:
        partition = broker.coordination.offsets_topic.partition_of(body.group_id)
    except (ApiError, OSError):
        return ErrorCode.COORDINATOR_NOT_AVAILABLE
    if request.api_version >= ADDS_VERSION:
        error, _ = broker.transactions.add(*producer, [partition], EPOCH_PER_TRANSACTION)
    else:
        error = broker.transactions.verify(*producer, partition)
    match error:
        case ErrorCode.TRANSACTION_ABORTABLE if request.api_version < ABORTABLE_VERSION:
            return ErrorCode.INVALID_TXN_STATE
        case ErrorCode.PRODUCER_FENCED:
            return ErrorCode.INVALID_PRODUCER_EPOCH
        case _:
            return error


def response(
    body: TxnOffsetCommitRequest, names: list[str | None], errors: Errors, for_others: ErrorCode
) -> TxnOffsetCommitResponse:
    topics = []
    for topic, name in zip(body.topics, names, strict=True):
        others = ErrorCode.UNKNOWN_TOPIC_ID if name is None else for_others
        partitions = [
            PartitionResponse(p.partition_index, errors.get((name or "", p.partition_index), others))
            for p in topic.partitions
        ]
        topics.append(TopicResponse(topic.topic_id, topic.name, partitions))
    return TxnOffsetCommitResponse(topics=topics)
