"""InitProducerId, 0 to 5: a producer id and epoch.

Without a transactional id, the producer gets an unused id, with epoch 0. With one, it gets the next epoch of that id's
producer, after any transaction that an older instance left open was aborted. From 3 on a client may name its id and epoch,
to continue after an error (KIP-360).
"""

from headwater.broker.authorization import may_write_something
from headwater.broker.connection import Request
from headwater.broker.leadership import transaction_refusal
from headwater.broker.parts import TransactionParts
from headwater.coordinators.transactions.coordinator import ProducerAnswer
from headwater.protocol.error_codes import ErrorCode
from headwater.protocol.messages.init_producer_id import InitProducerIdRequest, InitProducerIdResponse
from headwater.replay.deferred import Deferred
from headwater.security.acls import Operation

FENCED_VERSION = 4


def handle(broker: TransactionParts, request: Request) -> InitProducerIdResponse | Deferred[InitProducerIdResponse]:
    body: InitProducerIdRequest = request.body
    if body.transactional_id is None:
        if not may_write_something(broker, request):
            return InitProducerIdResponse(error_code=ErrorCode.CLUSTER_AUTHORIZATION_FAILED, producer_epoch=-1)
        return new_producer(broker)
    if refused := transaction_refusal(broker, request, Operation.WRITE, body.transactional_id):
        return InitProducerIdResponse(error_code=refused, producer_epoch=-1)
    if (body.producer_id < 0) != (body.producer_epoch < 0):
        return InitProducerIdResponse(error_code=ErrorCode.INVALID_REQUEST, producer_epoch=-1)
    answer = broker.transactions.init(
        body.transactional_id, body.transaction_timeout_ms, body.producer_id, body.producer_epoch
    )
    if isinstance(answer, ProducerAnswer):
        return response(request.api_version, answer)
    return answer.then(lambda done: response(request.api_version, done))


def new_producer(broker: TransactionParts) -> InitProducerIdResponse | Deferred[InitProducerIdResponse]:
    try:
        producer_id, sync = broker.producer_ids.next()
    except OSError:
        return InitProducerIdResponse(error_code=ErrorCode.COORDINATOR_NOT_AVAILABLE, producer_epoch=-1)
    return broker.answer_when_durable(sync, InitProducerIdResponse(producer_id=producer_id))


def response(version: int, answer: ProducerAnswer) -> InitProducerIdResponse:
    error = answer.error
    if error is ErrorCode.PRODUCER_FENCED and version < FENCED_VERSION:
        error = ErrorCode.INVALID_PRODUCER_EPOCH
    return InitProducerIdResponse(
        error_code=error, producer_id=answer.producer_id, producer_epoch=answer.producer_epoch
    )
