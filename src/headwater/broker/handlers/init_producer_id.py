"""InitProducerId, 0 to 5: a producer id that nobody else has, with epoch 0.

With a transactional id the answer is TRANSACTIONAL_ID_AUTHORIZATION_FAILED, which every client takes as fatal:
transactions are not served yet.
"""

from headwater.broker.core import BrokerCore
from headwater.broker.dispatch import Request
from headwater.effects.waits import Deferred
from headwater.protocol.error_codes import ErrorCode
from headwater.protocol.messages.init_producer_id import InitProducerIdRequest, InitProducerIdResponse


def handle(core: BrokerCore, request: Request) -> InitProducerIdResponse | Deferred:
    body: InitProducerIdRequest = request.body
    if body.transactional_id is not None:
        error = ErrorCode.TRANSACTIONAL_ID_AUTHORIZATION_FAILED if body.transactional_id else ErrorCode.INVALID_REQUEST
        return InitProducerIdResponse(error_code=error, producer_epoch=-1)
    try:
        producer_id, group = core.next_producer_id()
    except OSError:
        return InitProducerIdResponse(error_code=ErrorCode.COORDINATOR_NOT_AVAILABLE, producer_epoch=-1)
    return core.answer_when_durable(group, InitProducerIdResponse(producer_id=producer_id))
