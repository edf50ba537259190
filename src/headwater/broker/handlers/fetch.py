"""Fetch, 4 to 18: whole batches as they lie on disk, up to the high watermark.

Sessions (KIP-227), topic ids from 13 on (KIP-516), fenced epochs, diverging epochs. A byte limit never stops progress: the
first batch of a response is whole however large it is. Isolation level 1 (read_committed) ends at the last stable offset and
names the aborted transactions, whose records the client skips. If a fetch reaches the end of what is durable while more
was acknowledged (acks=1), it is answered when that is durable. Not supported: followers' fetches (there is one node).
"""

from collections import OrderedDict
from collections.abc import Callable
from typing import TypeAlias

from headwater.broker.authorization import may_topic
from headwater.broker.connection import Request
from headwater.broker.fetch_reader import FetchReader, FetchWait, Reading, grouped_response
from headwater.broker.fetch_sessions import (
    INITIAL_EPOCH,
    SESSIONLESS_EPOCH,
    FetchSession,
    FetchTarget,
    has_news,
    requested_targets,
)
from headwater.broker.leadership import name_leaders
from headwater.broker.parts import FetchParts
from headwater.broker.visibility import WAIT_MS_MAX, answer_when_visible
from headwater.effects.work import Steps
from headwater.protocol.messages.fetch import FetchRequest, FetchResponse
from headwater.replay.deferred import Deferred
from headwater.security.acls import Operation

PARTITIONS_AT_ONCE = 500
TOPIC_ID_VERSION = 13
FOLLOWER_VERSION, LEADER_VERSION = 11, 16
READ_COMMITTED = 1
Answer: TypeAlias = FetchResponse | Steps[FetchResponse]
Later: TypeAlias = Answer | Deferred[Answer]


def handle(broker: FetchParts, request: Request) -> Later | Steps[Later]:
    body: FetchRequest = request.body
    session: FetchSession | None = None
    if body.session_epoch > INITIAL_EPOCH:
        session, error = broker.sessions.resume(body.session_id, body.session_epoch)
        if session is None:
            return FetchResponse(error_code=error)
        broker.sessions.update(session, body)
        targets = session.targets
    else:
        if body.session_id:
            broker.sessions.close(body.session_id)
        targets = OrderedDict(requested_targets(body))
        if body.session_epoch != SESSIONLESS_EPOCH and request.api_version >= 7 and targets:
            session = broker.sessions.create(targets)
    reader = FetchReader(
        broker.partitions,
        targets.values(),
        min(body.max_bytes, broker.settings.fetch_max_bytes, broker.throttling.fetch_bytes_max(request)),
        by_id=request.api_version >= TOPIC_ID_VERSION,
        committed=body.isolation_level == READ_COMMITTED,
        may_read=lambda name: may_topic(broker, request, Operation.READ, name),
        endpoint=request.connection.endpoint,
        from_follower=request.api_version >= FOLLOWER_VERSION,
        room=request.connection.answer_room,
        hold=request.connection.hold_answer,
    )
    if len(reader.targets) > PARTITIONS_AT_ONCE:
        return fetch_many(broker, request, reader, session)
    reading = reader.read()
    if is_enough(request, reading) and not reader.is_behind:
        return response(broker, request, session, reading)
    return answer_later(broker, request, reader, reading, lambda: response(broker, request, session, reader.read()))


def fetch_many(broker: FetchParts, request: Request, reader: FetchReader, session: FetchSession | None) -> Steps[Later]:
    """A fetch of a great many partitions."""
    reading = yield from reader.read_in_steps()
    if is_enough(request, reading) and not reader.is_behind:
        return response(broker, request, session, reading)

    def respond() -> Steps[FetchResponse]:
        later = yield from reader.read_in_steps()
        return response(broker, request, session, later)

    return answer_later(broker, request, reader, reading, respond)


def is_enough(request: Request, reading: Reading) -> bool:
    """Whether what was read is enough for an answer."""
    body: FetchRequest = request.body
    has_enough = reading.total >= reading.min_bytes(body.min_bytes)
    return has_enough or reading.has_error or body.max_wait_ms <= 0 or not reading.results


def answer_later(
    broker: FetchParts, request: Request, reader: FetchReader, reading: Reading, respond: Callable[[], Answer]
) -> Later:
    """The answer, when acknowledged records are visible, and enough data has arrived or the time is up."""
    body: FetchRequest = request.body
    if is_enough(request, reading):
        logs = [log for _, log in reader.logs()]
        return answer_when_visible(broker, logs, WAIT_MS_MAX, respond, respond)
    wait = FetchWait(
        broker.timers, request.connection.waits, reader, reading.min_bytes(body.min_bytes), body.max_wait_ms
    )
    wait.respond = respond
    return wait.deferred


def response(broker: FetchParts, request: Request, session: FetchSession | None, reading: Reading) -> FetchResponse:
    if reading.total:
        broker.occurrences.fetched.emit(reading.total)
    made = shown_response(request, session, reading.results)
    if reading.has_error and request.api_version >= LEADER_VERSION:
        metadata = broker.metadata
        name_leaders(
            broker,
            request,
            made,
            (
                (metadata.by_id.get(target.topic_id) or metadata.topics.get(target.topic), target.partition, data)
                for target, data in reading.results
            ),
        )
    return made


def shown_response(
    request: Request, session: FetchSession | None, results: list[tuple[FetchTarget, FetchResponse.PartitionData]]
) -> FetchResponse:
    if session is None:
        return grouped_response(results, 0)
    is_incremental = request.body.session_epoch > INITIAL_EPOCH
    shown = [(target, data) for target, data in results if has_news(target, data) or not is_incremental]
    # Partitions that were served go to the back, so that a busy one does not starve the others.
    for target, data in shown:
        key = (target.topic_id, target.topic, target.partition)
        if data.records and key in session.targets:
            session.targets.move_to_end(key)
    return grouped_response(shown, session.session_id)
