"""Fetch, 4 to 18: whole batches as they lie on disk, up to the high watermark.

Sessions (KIP-227), topic ids from 13 (KIP-516), fenced epochs, diverging epochs. A byte limit never stops progress: the
first batch of a response is whole however large. Isolation level 1 (read_committed) ends at the last stable offset and
names the aborted transactions, whose records the client leaves out. A fetch that reaches the end of what is durable while
more was acknowledged (acks=1) is answered when that is durable. Not here: followers' fetches (one node).
"""

from collections import OrderedDict

from headwater.broker.authorization import may_topic
from headwater.broker.core import BrokerCore
from headwater.broker.dispatch import Request
from headwater.broker.fetching import (
    INITIAL_EPOCH,
    SESSIONLESS_EPOCH,
    FetchReader,
    FetchSession,
    FetchTarget,
    FetchWait,
    grouped_response,
    has_news,
    requested_targets,
    update_session,
)
from headwater.broker.visibility import WAIT_MS_MAX, answer_when_visible
from headwater.effects.waits import Deferred
from headwater.protocol.messages.fetch import FetchRequest, FetchResponse
from headwater.security.acls import Operation

TOPIC_ID_VERSION = 13
READ_COMMITTED = 1


def handle(core: BrokerCore, request: Request) -> FetchResponse | Deferred:
    body: FetchRequest = request.body
    session: FetchSession | None = None
    is_incremental = body.session_epoch > INITIAL_EPOCH
    if is_incremental:
        session, error = core.sessions.resume(body.session_id, body.session_epoch)
        if session is None:
            return FetchResponse(error_code=error)
        update_session(session, body)
        targets = session.targets
    else:
        if body.session_id:
            core.sessions.close(body.session_id)
        targets = OrderedDict(requested_targets(body))
        if body.session_epoch != SESSIONLESS_EPOCH and request.api_version >= 7 and targets:
            session = core.sessions.create(targets)
    reader = FetchReader(
        core,
        targets.values(),
        body.max_bytes,
        by_id=request.api_version >= TOPIC_ID_VERSION,
        committed=body.isolation_level == READ_COMMITTED,
        may_read=lambda name: may_topic(core, request, Operation.READ, name),
        room=request.connection.answer_room,
    )
    results, total, has_error = reader.read()
    must_answer = total >= body.min_bytes or has_error or body.max_wait_ms <= 0 or not targets
    if must_answer and not reader.is_behind:
        return response(core, session, is_incremental, results, total)

    def respond() -> FetchResponse:
        results, total, _ = reader.read()
        return response(core, session, is_incremental, results, total)

    if must_answer:
        logs = [log for _, log in reader.logs()]
        return answer_when_visible(core, logs, WAIT_MS_MAX, respond, respond)
    wait = FetchWait(core, request.connection.waits, reader, body.min_bytes, body.max_wait_ms)
    wait.respond = respond
    return wait.deferred


def response(
    core: BrokerCore,
    session: FetchSession | None,
    is_incremental: bool,
    results: list[tuple[FetchTarget, FetchResponse.PartitionData]],
    total: int,
) -> FetchResponse:
    core.statistics.fetched_bytes += total
    if session is None:
        return grouped_response(results, 0)
    shown = [(target, data) for target, data in results if has_news(target, data) or not is_incremental]
    # Who was served goes to the back, so that a busy partition does not starve the others.
    for target, data in shown:
        if data.records:
            session.targets.move_to_end((target.topic_id, target.topic, target.partition))
    return grouped_response(shown, session.session_id)
