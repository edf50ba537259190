"""ListTransactions, 0 to 2: transactional ids by state and producer, from 1 on by duration, from 2 on by a pattern.

Only ids that the client may describe are compared with its filters. The pattern uses RE2's syntax, as in Kafka.
"""

from headwater.broker.connection import Request
from headwater.broker.leadership import transaction_refusal
from headwater.broker.parts import TransactionParts
from headwater.coordinators.groups.consumer.patterns import PatternError, client_pattern
from headwater.coordinators.transactions.transaction import STATE_LABELS, Transaction, TransactionState
from headwater.effects.work import Steps
from headwater.protocol.error_codes import ErrorCode
from headwater.protocol.messages.list_transactions import ListTransactionsRequest, ListTransactionsResponse
from headwater.security.acls import Operation


def handle(broker: TransactionParts, request: Request) -> Steps[ListTransactionsResponse]:
    body: ListTransactionsRequest = request.body
    unknown = [name for name in body.state_filters if name not in STATE_LABELS]
    response = ListTransactionsResponse(unknown_state_filters=unknown)
    if body.state_filters and len(unknown) == len(body.state_filters):
        return response
    pattern = None
    if body.transactional_id_pattern:
        try:
            pattern = client_pattern(body.transactional_id_pattern)
        except PatternError:
            response.error_code = ErrorCode.INVALID_REGULAR_EXPRESSION
            return response
    now_ms = broker.clock.wall_ms()
    states, producer_ids = frozenset(body.state_filters), frozenset(body.producer_id_filters)
    for transactional_id, known in list(broker.transactions.transactions.items()):
        yield
        if (
            not transaction_refusal(broker, request, Operation.DESCRIBE, transactional_id)
            and is_wanted(known, states, producer_ids)
            and is_open_for(known, body.duration_filter, now_ms)
            and (pattern is None or pattern.fullmatch(transactional_id))
        ):
            response.transaction_states.append(
                ListTransactionsResponse.TransactionState(transactional_id, known.producer_id, known.state.label)
            )
    return response


def is_wanted(known: Transaction, states: frozenset[str], producer_ids: frozenset[int]) -> bool:
    if known.state is TransactionState.DEAD:
        return False
    return (not states or known.state.label in states) and (not producer_ids or known.producer_id in producer_ids)


def is_open_for(known: Transaction, duration_ms: int, now_ms: int) -> bool:
    """Whether the transaction has been open for longer than that. A negative duration matches all."""
    return duration_ms < 0 or (known.started_ms >= 0 and now_ms - known.started_ms > duration_ms)
