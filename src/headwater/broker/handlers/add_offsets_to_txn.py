"""AddOffsetsToTxn, 0 to 4: adds a group's partition of `__consumer_offsets` to a transaction, before TxnOffsetCommit."""

from headwater.broker.authorization import may_group
from headwater.broker.connection import Request
from headwater.broker.leadership import transaction_refusal
from headwater.broker.parts import TransactionParts
from headwater.protocol.error_codes import ErrorCode
from headwater.protocol.errors import ApiError
from headwater.protocol.messages.add_offsets_to_txn import AddOffsetsToTxnRequest, AddOffsetsToTxnResponse
from headwater.replay.deferred import Deferred
from headwater.security.acls import Operation

FENCED_VERSION = 2


def handle(broker: TransactionParts, request: Request) -> AddOffsetsToTxnResponse | Deferred[AddOffsetsToTxnResponse]:
    body: AddOffsetsToTxnRequest = request.body
    if refused := transaction_refusal(broker, request, Operation.WRITE, body.transactional_id):
        return AddOffsetsToTxnResponse(error_code=refused)
    if not may_group(broker, request, Operation.READ, body.group_id):
        return AddOffsetsToTxnResponse(error_code=ErrorCode.GROUP_AUTHORIZATION_FAILED)
    try:
        partition = broker.coordination.offsets_topic.partition_of(body.group_id)
    except (ApiError, OSError):
        return AddOffsetsToTxnResponse(error_code=ErrorCode.COORDINATOR_NOT_AVAILABLE)
    error, sync = broker.transactions.add(body.transactional_id, body.producer_id, body.producer_epoch, [partition])
    if error is ErrorCode.PRODUCER_FENCED and request.api_version < FENCED_VERSION:
        error = ErrorCode.INVALID_PRODUCER_EPOCH
    return broker.answer_when_durable(sync, AddOffsetsToTxnResponse(error_code=error))
