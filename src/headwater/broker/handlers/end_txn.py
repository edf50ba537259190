"""EndTxn, 0 to 5: commits or aborts a transaction; answers when every partition has its marker on disk.

From 5 on the answer has the epoch of the next transaction (KIP-890), and aborting without a transaction is allowed.
"""

from headwater.broker.connection import Request
from headwater.broker.leadership import transaction_refusal
from headwater.broker.parts import TransactionParts
from headwater.coordinators.transactions.coordinator import ProducerAnswer
from headwater.coordinators.transactions.transaction import EPOCH_PER_TRANSACTION
from headwater.protocol.error_codes import ErrorCode
from headwater.protocol.messages.end_txn import EndTxnRequest, EndTxnResponse
from headwater.replay.deferred import Deferred
from headwater.security.acls import Operation

FENCED_VERSION, EPOCH_VERSION = 2, 5


def handle(broker: TransactionParts, request: Request) -> EndTxnResponse | Deferred[EndTxnResponse]:
    body: EndTxnRequest = request.body
    version = request.api_version
    if refused := transaction_refusal(broker, request, Operation.WRITE, body.transactional_id):
        return EndTxnResponse(error_code=refused)
    answer = broker.transactions.end(
        body.transactional_id,
        body.producer_id,
        body.producer_epoch,
        commit=body.committed,
        client_version=EPOCH_PER_TRANSACTION if version >= EPOCH_VERSION else 0,
    )
    if isinstance(answer, ProducerAnswer):
        return response(version, answer)
    return answer.then(lambda done: response(version, done))


def response(version: int, answer: ProducerAnswer) -> EndTxnResponse:
    error = answer.error
    if error is ErrorCode.PRODUCER_FENCED and version < FENCED_VERSION:
        error = ErrorCode.INVALID_PRODUCER_EPOCH
    if error is not ErrorCode.NONE:
        return EndTxnResponse(error_code=error)
    return EndTxnResponse(producer_id=answer.producer_id, producer_epoch=answer.producer_epoch)
