"""DescribeTransactions, 0: transactional ids with their producer, state and partitions (KIP-664)."""

from headwater.broker.authorization import may_topic
from headwater.broker.connection import Request
from headwater.broker.leadership import transaction_refusal
from headwater.broker.parts import TransactionParts
from headwater.effects.work import Steps
from headwater.protocol.error_codes import ErrorCode
from headwater.protocol.messages.describe_transactions import (
    DescribeTransactionsRequest,
    DescribeTransactionsResponse,
)
from headwater.security.acls import Operation

Described = DescribeTransactionsResponse.TransactionState


def handle(broker: TransactionParts, request: Request) -> Steps[DescribeTransactionsResponse]:
    body: DescribeTransactionsRequest = request.body
    response = DescribeTransactionsResponse()
    for transactional_id in dict.fromkeys(body.transactional_ids):
        response.transaction_states.append(describe(broker, request, transactional_id))
        yield
    return response


def describe(broker: TransactionParts, request: Request, transactional_id: str) -> Described:
    failed = Described(transactional_id=transactional_id)
    if refused := transaction_refusal(broker, request, Operation.DESCRIBE, transactional_id):
        failed.error_code = refused
        return failed
    known = broker.transactions.transactions.get(transactional_id)
    if known is None:
        failed.error_code = ErrorCode.TRANSACTIONAL_ID_NOT_FOUND
        return failed
    topics: dict[str, list[int]] = {}
    for name, number in sorted(known.partitions):
        if may_topic(broker, request, Operation.DESCRIBE, name):
            topics.setdefault(name, []).append(number)
    return Described(
        0,
        transactional_id,
        known.state.label,
        known.timeout_ms,
        known.started_ms,
        known.producer_id,
        known.producer_epoch,
        [DescribeTransactionsResponse.TopicData(name, numbers) for name, numbers in topics.items()],
    )
