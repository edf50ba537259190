"""ListTransactions, 0 to 2: transactional ids by state and producer, from 1 by how long they are open, from 2 by a pattern."""

import re

from headwater.broker.authorization import may_transaction
from headwater.broker.core import BrokerCore
from headwater.broker.dispatch import Request
from headwater.coordinators.transaction import STATE_LABELS, Transaction, TransactionState
from headwater.protocol.error_codes import ErrorCode
from headwater.protocol.messages.list_transactions import ListTransactionsRequest, ListTransactionsResponse
from headwater.security.acls import Operation

PATTERN_CHARACTERS_MAX = 1000


def handle(core: BrokerCore, request: Request) -> ListTransactionsResponse:
    body: ListTransactionsRequest = request.body
    unknown = [name for name in body.state_filters if name not in STATE_LABELS]
    response = ListTransactionsResponse(unknown_state_filters=unknown)
    if body.state_filters and len(unknown) == len(body.state_filters):
        return response
    try:
        pattern = compiled(body.transactional_id_pattern)
    except re.error:
        response.error_code = ErrorCode.INVALID_REGULAR_EXPRESSION
        return response
    now_ms = core.clock.wall_ms()
    for transactional_id, known in core.transactions.transactions.items():
        if (
            is_wanted(body, known, now_ms)
            and (pattern is None or pattern.fullmatch(transactional_id))
            and may_transaction(core, request, Operation.DESCRIBE, transactional_id)
        ):
            response.transaction_states.append(
                ListTransactionsResponse.TransactionState(transactional_id, known.producer_id, known.state.label)
            )
    return response


def compiled(pattern: str | None) -> re.Pattern[str] | None:
    """Raises re.error for what is no pattern, or too long for one."""
    if not pattern:
        return None
    if len(pattern) > PATTERN_CHARACTERS_MAX:
        raise re.error("the pattern is too long")
    return re.compile(pattern)


def is_wanted(body: ListTransactionsRequest, known: Transaction, now_ms: int) -> bool:
    if known.state is TransactionState.DEAD:
        return False
    if body.state_filters and known.state.label not in body.state_filters:
        return False
    if body.producer_id_filters and known.producer_id not in body.producer_id_filters:
        return False
    is_long = known.started_ms >= 0 and now_ms - known.started_ms > body.duration_filter
    return body.duration_filter < 0 or is_long
