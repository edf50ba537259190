"""From a frame to its handler and back: the one way in which a request reaches the core.

The table below is all that this broker serves, and what ApiVersions tells. A handler's module is imported with its
first request.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from importlib import import_module
from types import GeneratorType
from typing import Any, NamedTuple

from headwater.broker.cluster import PLAIN_ENDPOINT, Endpoint
from headwater.broker.core import BrokerCore
from headwater.broker.fetching import FetchWait
from headwater.effects.buffers import Buffer
from headwater.effects.waits import Deferred
from headwater.effects.work import Steps, Work
from headwater.protocol.apis import APIS, Api, ApiKey
from headwater.protocol.compiled import decode, decode_in_steps
from headwater.protocol.errors import ProtocolError, UnsupportedVersionError
from headwater.protocol.frames import RequestHeader, read_request_header, response_frame, response_frame_in_steps
from headwater.security.acls import ANONYMOUS
from headwater.security.sasl import Exchange

SERVED: tuple[ApiKey, ...] = (
    ApiKey.PRODUCE,
    ApiKey.FETCH,
    ApiKey.LIST_OFFSETS,
    ApiKey.METADATA,
    ApiKey.OFFSET_COMMIT,
    ApiKey.OFFSET_FETCH,
    ApiKey.FIND_COORDINATOR,
    ApiKey.JOIN_GROUP,
    ApiKey.HEARTBEAT,
    ApiKey.LEAVE_GROUP,
    ApiKey.SYNC_GROUP,
    ApiKey.DESCRIBE_GROUPS,
    ApiKey.LIST_GROUPS,
    ApiKey.SASL_HANDSHAKE,
    ApiKey.API_VERSIONS,
    ApiKey.CREATE_TOPICS,
    ApiKey.DELETE_TOPICS,
    ApiKey.DELETE_RECORDS,
    ApiKey.INIT_PRODUCER_ID,
    ApiKey.OFFSET_FOR_LEADER_EPOCH,
    ApiKey.ADD_PARTITIONS_TO_TXN,
    ApiKey.ADD_OFFSETS_TO_TXN,
    ApiKey.END_TXN,
    ApiKey.WRITE_TXN_MARKERS,
    ApiKey.TXN_OFFSET_COMMIT,
    ApiKey.DESCRIBE_ACLS,
    ApiKey.CREATE_ACLS,
    ApiKey.DELETE_ACLS,
    ApiKey.DESCRIBE_CONFIGS,
    ApiKey.ALTER_CONFIGS,
    ApiKey.ALTER_REPLICA_LOG_DIRS,
    ApiKey.DESCRIBE_LOG_DIRS,
    ApiKey.SASL_AUTHENTICATE,
    ApiKey.CREATE_PARTITIONS,
    ApiKey.DELETE_GROUPS,
    ApiKey.ELECT_LEADERS,
    ApiKey.INCREMENTAL_ALTER_CONFIGS,
    ApiKey.ALTER_PARTITION_REASSIGNMENTS,
    ApiKey.LIST_PARTITION_REASSIGNMENTS,
    ApiKey.OFFSET_DELETE,
    ApiKey.DESCRIBE_CLIENT_QUOTAS,
    ApiKey.DESCRIBE_USER_SCRAM_CREDENTIALS,
    ApiKey.ALTER_USER_SCRAM_CREDENTIALS,
    ApiKey.DESCRIBE_QUORUM,
    ApiKey.UPDATE_FEATURES,
    ApiKey.DESCRIBE_CLUSTER,
    ApiKey.DESCRIBE_PRODUCERS,
    ApiKey.DESCRIBE_TRANSACTIONS,
    ApiKey.LIST_TRANSACTIONS,
    ApiKey.CONSUMER_GROUP_HEARTBEAT,
    ApiKey.CONSUMER_GROUP_DESCRIBE,
    ApiKey.LIST_CONFIG_RESOURCES,
    ApiKey.DESCRIBE_TOPIC_PARTITIONS,
)
# librdkafka's compressed produce fails unless Produce 0 is advertised (KAFKA-18659); a request of 0 to 2 is refused.
ADVERTISED_LOW = {ApiKey.PRODUCE: 0}
BEFORE_AUTHENTICATION = frozenset({ApiKey.API_VERSIONS, ApiKey.SASL_HANDSHAKE, ApiKey.SASL_AUTHENTICATE})
UNAUTHENTICATED = ""
# All array elements and tagged fields of one request: five times as many partitions as a broker has, and no more than are
# decoded in some 50 ms.
REQUEST_ELEMENTS_MAX = 100_000
UNLIMITED_BYTES = 2**31 - 1
DECODED_AT_ONCE_BYTES_MAX = 64 * 1024  # a larger frame is decoded in steps
CORRELATION_ID = slice(4, 8)  # in a request without its length, and in a response with it
SERVED_KEYS = frozenset(int(key) for key in SERVED)


class Repeatable(NamedTuple):
    """A handler's answer that the same request gets again for as long as `holds` says so and has done what it asks for.

    Members send the same heartbeat every few seconds, thousands of them a second to an otherwise idle broker.
    """

    message: Any
    holds: Callable[[], bool]


class Repeat(NamedTuple):
    """A connection's last request that was Repeatable, and its answer, both around their correlation id."""

    size: int
    api: bytes
    rest: bytes
    holds: Callable[[], bool]
    answer: tuple[bytes, bytes]

    def answer_to(self, frame: Buffer) -> list[Buffer]:
        before, after = self.answer
        return [b"".join((before, frame[CORRELATION_ID], after))]


@dataclass(slots=True, eq=False)
class Connection:
    """What the core knows of a client's connection."""

    client_host: str
    endpoint: Endpoint = PLAIN_ENDPOINT
    principal: str = ANONYMOUS
    is_restricted: bool = False  # it has to authenticate first, or again after a time
    sasl: "SaslState | None" = None
    is_raw_sasl: bool = False  # after SaslHandshake 0 the exchange comes in bare frames
    must_close: bool = False  # after what is being answered
    is_busy: bool = False  # a login is being checked: no other request is handled meanwhile
    answer_room: Callable[[], int] = lambda: UNLIMITED_BYTES  # how large the next answer may be; 0: it has to wait
    hold_answer: Callable[[int], None] = lambda size: None  # bytes of an answer that is being made
    waits: set[FetchWait] = field(default_factory=set)
    repeat: Repeat | None = None
    work: Work | None = None  # what is under way; nothing else of the connection is handled until it is done
    late_work: set[Work] = field(default_factory=set)  # of requests that had to wait before
    fail: Callable[[Exception], object] | None = None  # the shell ends the connection

    @property
    def address(self) -> str:
        """The client's address without Java's leading slash."""
        return self.client_host.lstrip("/")

    def closed(self) -> None:
        """Nobody is left to be answered."""
        for wait in list(self.waits):
            wait.stop()
        for work in (self.work, *self.late_work):
            if work is not None:
                work.cancel()

    def late_work_ended(self, work: Work, error: Exception | None) -> None:
        self.late_work.discard(work)
        if error is not None and self.fail is not None:
            self.fail(error)


@dataclass(slots=True)
class SaslState:
    """Where a connection's authentication is."""

    mechanism: str
    exchange: Exchange
    expires_ms: float | None = None  # on the steady clock; None: never


class Request(NamedTuple):
    """A decoded request."""

    api_key: int
    api_version: int
    client_id: str | None
    connection: Connection
    body: Any


class Served(NamedTuple):
    """What dispatching one version of an API needs."""

    api: Api
    request_class: Any
    handle: Callable[[BrokerCore, Request], Any]


served_cache: dict[int, Served] = {}


def served(api_key: int) -> Served:
    """The handler of a served API, imported on first use."""
    found = served_cache.get(api_key)
    if found is None:
        api = APIS[api_key]
        messages = import_module(f"headwater.protocol.messages.{api.module}")
        handler = import_module(f"headwater.broker.handlers.{api.module}")
        found = served_cache[api_key] = Served(api, getattr(messages, api.name + "Request"), handler.handle)
    return found


def advertised() -> list[tuple[int, int, int]]:
    """(key, lowest version, highest version) of everything in the table."""
    return [(key, ADVERTISED_LOW.get(key, APIS[key].low), APIS[key].latest_stable) for key in SERVED]


def check_session(core: BrokerCore, connection: Connection, key: int) -> None:
    """Raises ProtocolError for a request of a client that has not authenticated, or whose session is over (KIP-368)."""
    name = APIS[key].name
    if connection.principal == UNAUTHENTICATED or connection.sasl is None:
        raise ProtocolError(f"{name} before SASL authentication")
    expires_ms = connection.sasl.expires_ms
    if expires_ms is not None and core.clock.steady_ms() > expires_ms:
        raise ProtocolError(f"{name} after the session's end: the client has to authenticate again")


def raw_sasl_answer(core: BrokerCore, connection: Connection, frame: Buffer) -> list[Buffer] | Deferred | None:
    """The answer to a bare frame of the exchange."""
    handler = import_module("headwater.broker.handlers.sasl_authenticate")
    answer: bytes | Deferred | None = handler.raw(core, connection, bytes(frame))
    if not isinstance(answer, Deferred):
        return raw_frame(answer)
    deferred = Deferred()
    answer.when_done(lambda token: deferred.complete(raw_frame(token)))
    return deferred


def raw_frame(token: bytes | None) -> list[Buffer] | None:
    return None if token is None else [len(token).to_bytes(4, "big") + token]


def dispatch(core: BrokerCore, connection: Connection, frame: Buffer) -> list[Buffer] | Deferred | None:
    """Handles one request frame (without its length).

    Returns the response's buffers, a `Deferred` that completes with them, or None when there is no response. Raises
    ProtocolError for what ends the connection: bytes that are not a request, or an API or version that is not served.
    """
    if connection.is_raw_sasl:
        return raw_sasl_answer(core, connection, frame)
    repeat = connection.repeat
    if repeat is not None and len(frame) == repeat.size and is_repeated(repeat, connection, frame):
        core.statistics.requests[int.from_bytes(repeat.api[:2])] += 1
        return repeat.answer_to(frame)
    header = read_request_header(frame)
    key, version = header.api_key, header.api_version
    entry = served_cache.get(key)
    if entry is None and key not in SERVED_KEYS:
        raise UnsupportedVersionError(f"{APIS[key].name} is not served")
    if connection.is_restricted and key not in BEFORE_AUTHENTICATION:
        check_session(core, connection, key)
    if entry is None:
        entry = served(key)
    api = entry.api
    if not api.low <= version <= api.latest_stable:
        if key != ApiKey.API_VERSIONS:
            raise UnsupportedVersionError(f"{api.name} version {version} is not served")
        unsupported = import_module("headwater.broker.handlers.api_versions").unsupported_version()
        return response_frame(api, 0, header.correlation_id, unsupported)
    if len(frame) > DECODED_AT_ONCE_BYTES_MAX:
        steps = large_in_steps(core, connection, frame, header, entry)
        return in_slices(
            core, connection, framed_in_steps(core, connection, api, version, header.correlation_id, steps)
        )
    # Bytes after the body are ignored, as in Kafka: librdkafka leaves some after its Metadata request.
    body, _ = decode(entry.request_class, version, frame, header.body_at, REQUEST_ELEMENTS_MAX)
    core.statistics.requests[key] += 1
    answer = entry.handle(core, Request(key, version, header.client_id, connection, body))
    if answer is None:
        return None
    if isinstance(answer, Deferred):
        return framed(core, connection, api, version, header.correlation_id, answer)
    if isinstance(answer, GeneratorType):
        return in_slices(
            core, connection, framed_in_steps(core, connection, api, version, header.correlation_id, answer)
        )
    if isinstance(answer, Repeatable):
        buffers = response_frame(api, version, header.correlation_id, answer.message)
        connection.repeat = repeat_of(frame, answer.holds, b"".join(buffers))
        return buffers
    return response_frame(api, version, header.correlation_id, answer)


def large_in_steps(
    core: BrokerCore, connection: Connection, frame: Buffer, header: RequestHeader, entry: Served
) -> Steps[Any]:
    """What a large frame asks for: it may have so many elements that already decoding it takes long."""
    version = header.api_version
    body, _ = yield from decode_in_steps(entry.request_class, version, frame, header.body_at, REQUEST_ELEMENTS_MAX)
    core.statistics.requests[header.api_key] += 1
    answer = entry.handle(core, Request(header.api_key, version, header.client_id, connection, body))
    if isinstance(answer, GeneratorType):
        return (yield from answer)
    return answer.message if isinstance(answer, Repeatable) else answer


def framed(
    core: BrokerCore, connection: Connection, api: Api, version: int, correlation_id: int, answer: Deferred
) -> Deferred:
    """The response's buffers, when the answer is there. It may be work that could only begin by then."""
    deferred = Deferred()

    def complete(message: Any) -> None:
        if message is None:
            deferred.complete(None)
        elif isinstance(message, GeneratorType):
            steps = framed_in_steps(core, connection, api, version, correlation_id, message)
            begin_late(core, connection, steps, deferred)
        else:
            try:
                buffers = response_frame(api, version, correlation_id, message)
            except Exception as error:
                # Others wait for what completes this answer: they are no part of its failure.
                if connection.fail is None:
                    raise
                connection.fail(error)
            else:
                deferred.complete(buffers)

    answer.when_done(complete)
    return deferred


def begin_late(
    core: BrokerCore, connection: Connection, steps: Steps[list[Buffer] | Deferred | None], deferred: Deferred
) -> None:
    """Begins work for a request that had to wait first; later requests of the connection may have been handled."""
    result = core.work.begin(steps)
    if isinstance(result, Work):
        connection.late_work.add(result)
        result.deferred.when_done(deferred.complete)
        result.when_done(partial(connection.late_work_ended, result))
    elif isinstance(result, Deferred):
        result.when_done(deferred.complete)
    else:
        deferred.complete(result)


def framed_in_steps(
    core: BrokerCore, connection: Connection, api: Api, version: int, correlation_id: int, steps: Steps[Any]
) -> Steps[list[Buffer] | Deferred | None]:
    """The work of a request and of its response."""
    answer = yield from steps
    if isinstance(answer, GeneratorType):  # what would have had to wait need not
        answer = yield from answer
    if answer is None:
        return None
    if isinstance(answer, Deferred):
        return framed(core, connection, api, version, correlation_id, answer)
    return (yield from response_frame_in_steps(api, version, correlation_id, answer))


def in_slices(
    core: BrokerCore, connection: Connection, steps: Steps[list[Buffer] | Deferred | None]
) -> list[Buffer] | Deferred | None:
    """The response, if the work is done in one slice; else the connection has work under way.

    Until that is done nothing more of the connection may be handled: requests are served in the order in which they come.
    """
    result = core.work.begin(steps)
    if not isinstance(result, Work):
        return result
    connection.work = result
    return result.deferred


def repeat_of(frame: Buffer, holds: Callable[[], bool], answer: bytes) -> Repeat:
    start, end = CORRELATION_ID.start, CORRELATION_ID.stop
    return Repeat(len(frame), bytes(frame[:start]), bytes(frame[end:]), holds, (answer[:start], answer[end:]))


def is_repeated(repeat: Repeat, connection: Connection, frame: Buffer) -> bool:
    return (
        frame[CORRELATION_ID.stop :] == repeat.rest
        and frame[: CORRELATION_ID.start] == repeat.api
        and not connection.is_restricted
        and repeat.holds()
    )
