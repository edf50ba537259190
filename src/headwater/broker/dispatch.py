"""Brings a frame to its handler and the answer back. This is the only way for a request into the core.

The table below lists everything that this broker serves. ApiVersions answers from it.
"""

from collections.abc import Callable
from functools import partial
from types import GeneratorType
from typing import Any, NamedTuple, TypeAlias

from headwater.broker import handlers
from headwater.broker.connection import UNAUTHENTICATED, Connection, Repeat, Repeatable, Request
from headwater.broker.core import BrokerCore
from headwater.broker.produce_routes import NO_ROUTE, PRODUCE_KEY, NoRoute, Routable, Routes
from headwater.broker.produce_routes import Answer as RouteAnswer
from headwater.effects.buffers import Buffer
from headwater.effects.work import Steps, Work
from headwater.protocol.api_classes import request_class
from headwater.protocol.apis import APIS, Api, ApiKey
from headwater.protocol.compiled import decode, decode_in_steps
from headwater.protocol.errors import ProtocolError, UnsupportedVersionError
from headwater.protocol.frames import RequestHeader, read_request_header, response_frame, response_frame_in_steps
from headwater.replay.deferred import Deferred

Frames: TypeAlias = list[Buffer] | None  # the buffers of a response; None if there is no response
Handler: TypeAlias = Callable[[BrokerCore, Request], Any]
# Each handler is looked up, and its module imported, with the first request for its API. Here a type checker sees that the
# core has the parts that each handler needs.
HANDLERS: dict[ApiKey, Callable[[], Handler]] = {
    ApiKey.PRODUCE: lambda: handlers.produce.handle,
    ApiKey.FETCH: lambda: handlers.fetch.handle,
    ApiKey.LIST_OFFSETS: lambda: handlers.list_offsets.handle,
    ApiKey.METADATA: lambda: handlers.metadata.handle,
    ApiKey.OFFSET_COMMIT: lambda: handlers.offset_commit.handle,
    ApiKey.OFFSET_FETCH: lambda: handlers.offset_fetch.handle,
    ApiKey.FIND_COORDINATOR: lambda: handlers.find_coordinator.handle,
    ApiKey.JOIN_GROUP: lambda: handlers.join_group.handle,
    ApiKey.HEARTBEAT: lambda: handlers.heartbeat.handle,
    ApiKey.LEAVE_GROUP: lambda: handlers.leave_group.handle,
    ApiKey.SYNC_GROUP: lambda: handlers.sync_group.handle,
    ApiKey.DESCRIBE_GROUPS: lambda: handlers.describe_groups.handle,
    ApiKey.LIST_GROUPS: lambda: handlers.list_groups.handle,
    ApiKey.SASL_HANDSHAKE: lambda: handlers.sasl_handshake.handle,
    ApiKey.API_VERSIONS: lambda: api_versions_handler(),
    ApiKey.CREATE_TOPICS: lambda: handlers.create_topics.handle,
    ApiKey.DELETE_TOPICS: lambda: handlers.delete_topics.handle,
    ApiKey.DELETE_RECORDS: lambda: handlers.delete_records.handle,
    ApiKey.INIT_PRODUCER_ID: lambda: handlers.init_producer_id.handle,
    ApiKey.OFFSET_FOR_LEADER_EPOCH: lambda: handlers.offset_for_leader_epoch.handle,
    ApiKey.ADD_PARTITIONS_TO_TXN: lambda: handlers.add_partitions_to_txn.handle,
    ApiKey.ADD_OFFSETS_TO_TXN: lambda: handlers.add_offsets_to_txn.handle,
    ApiKey.END_TXN: lambda: handlers.end_txn.handle,
    ApiKey.WRITE_TXN_MARKERS: lambda: handlers.write_txn_markers.handle,
    ApiKey.TXN_OFFSET_COMMIT: lambda: handlers.txn_offset_commit.handle,
    ApiKey.DESCRIBE_ACLS: lambda: handlers.describe_acls.handle,
    ApiKey.CREATE_ACLS: lambda: handlers.create_acls.handle,
    ApiKey.DELETE_ACLS: lambda: handlers.delete_acls.handle,
    ApiKey.DESCRIBE_CONFIGS: lambda: handlers.describe_configs.handle,
    ApiKey.ALTER_CONFIGS: lambda: handlers.alter_configs.handle,
    ApiKey.ALTER_REPLICA_LOG_DIRS: lambda: handlers.alter_replica_log_dirs.handle,
    ApiKey.DESCRIBE_LOG_DIRS: lambda: handlers.describe_log_dirs.handle,
    ApiKey.SASL_AUTHENTICATE: lambda: handlers.sasl_authenticate.handle,
    ApiKey.CREATE_PARTITIONS: lambda: handlers.create_partitions.handle,
    ApiKey.CREATE_DELEGATION_TOKEN: lambda: handlers.create_delegation_token.handle,
    ApiKey.RENEW_DELEGATION_TOKEN: lambda: handlers.renew_delegation_token.handle,
    ApiKey.EXPIRE_DELEGATION_TOKEN: lambda: handlers.expire_delegation_token.handle,
    ApiKey.DESCRIBE_DELEGATION_TOKEN: lambda: handlers.describe_delegation_token.handle,
    ApiKey.DELETE_GROUPS: lambda: handlers.delete_groups.handle,
    ApiKey.ELECT_LEADERS: lambda: handlers.elect_leaders.handle,
    ApiKey.INCREMENTAL_ALTER_CONFIGS: lambda: handlers.incremental_alter_configs.handle,
    ApiKey.ALTER_PARTITION_REASSIGNMENTS: lambda: handlers.alter_partition_reassignments.handle,
    ApiKey.LIST_PARTITION_REASSIGNMENTS: lambda: handlers.list_partition_reassignments.handle,
    ApiKey.OFFSET_DELETE: lambda: handlers.offset_delete.handle,
    ApiKey.DESCRIBE_CLIENT_QUOTAS: lambda: handlers.describe_client_quotas.handle,
    ApiKey.ALTER_CLIENT_QUOTAS: lambda: handlers.alter_client_quotas.handle,
    ApiKey.DESCRIBE_USER_SCRAM_CREDENTIALS: lambda: handlers.describe_user_scram_credentials.handle,
    ApiKey.ALTER_USER_SCRAM_CREDENTIALS: lambda: handlers.alter_user_scram_credentials.handle,
    ApiKey.DESCRIBE_QUORUM: lambda: handlers.describe_quorum.handle,
    ApiKey.UPDATE_FEATURES: lambda: handlers.update_features.handle,
    ApiKey.DESCRIBE_CLUSTER: lambda: handlers.describe_cluster.handle,
    ApiKey.DESCRIBE_PRODUCERS: lambda: handlers.describe_producers.handle,
    ApiKey.DESCRIBE_TRANSACTIONS: lambda: handlers.describe_transactions.handle,
    ApiKey.LIST_TRANSACTIONS: lambda: handlers.list_transactions.handle,
    ApiKey.CONSUMER_GROUP_HEARTBEAT: lambda: handlers.consumer_group_heartbeat.handle,
    ApiKey.CONSUMER_GROUP_DESCRIBE: lambda: handlers.consumer_group_describe.handle,
    ApiKey.LIST_CONFIG_RESOURCES: lambda: handlers.list_config_resources.handle,
    ApiKey.DESCRIBE_TOPIC_PARTITIONS: lambda: handlers.describe_topic_partitions.handle,
}
SERVED: tuple[ApiKey, ...] = tuple(HANDLERS)
# librdkafka's compressed produce fails unless Produce 0 is advertised (KAFKA-18659); requests in versions 0 to 2 are refused.
ADVERTISED_LOW = {ApiKey.PRODUCE: 0}
BEFORE_AUTHENTICATION = frozenset({ApiKey.API_VERSIONS, ApiKey.SASL_HANDSHAKE, ApiKey.SASL_AUTHENTICATE})
# All array elements and tagged fields of one request: five times as many as a broker has partitions, and no more than can be
# decoded in some 50 ms.
REQUEST_ELEMENTS_MAX = 100_000
DECODED_AT_ONCE_BYTES_MAX = 64 * 1024  # a larger frame is decoded in steps
SERVED_KEYS = frozenset(int(key) for key in SERVED)


class Served(NamedTuple):
    """What is needed to dispatch one version of an API."""

    api: Api
    request_class: Any
    handle: Handler


served_cache: dict[int, Served] = {}


def served_api(api_key: int) -> Served:
    """The handler of a served API, imported on first use."""
    found = served_cache.get(api_key)
    if found is None:
        key = ApiKey(api_key)
        found = served_cache[api_key] = Served(APIS[key], request_class(key), HANDLERS[key]())
    return found


def advertised_versions() -> list[tuple[int, int, int]]:
    """(key, lowest version, highest version) of each API in the table."""
    return [(key, ADVERTISED_LOW.get(key, APIS[key].low), APIS[key].latest_stable) for key in SERVED]


def api_versions_handler() -> Handler:
    """The handler of ApiVersions, which gets the versions in this table."""
    handle, versions = handlers.api_versions.handle, advertised_versions()
    return lambda core, request: handle(core, request, versions)


def check_session(core: BrokerCore, connection: Connection, key: int) -> None:
    """Raises ProtocolError if the client has not authenticated, or if its session is over (KIP-368)."""
    name = APIS[key].name
    if connection.principal == UNAUTHENTICATED or connection.sasl is None:
        raise ProtocolError(f"{name} before SASL authentication")
    expires_ms = connection.sasl.expires_ms
    if expires_ms is not None and core.clock.steady_ms() > expires_ms:
        raise ProtocolError(f"{name} after the session's end; the client has to authenticate again")


def raw_sasl_answer(core: BrokerCore, connection: Connection, frame: Buffer) -> Frames | Deferred[Frames]:
    """The answer to a bare frame of the SASL exchange."""
    answer = handlers.sasl_authenticate.raw(core, connection, bytes(frame))
    if not isinstance(answer, Deferred):
        return raw_frame(answer)
    return answer.then(raw_frame)


def raw_frame(token: bytes | None) -> list[Buffer] | None:
    return None if token is None else [len(token).to_bytes(4, "big") + token]


def dispatch(core: BrokerCore, connection: Connection, frame: Buffer) -> Frames | Deferred[Frames]:
    """Handles one request frame (without its length).

    Returns the response's buffers, a `Deferred` that completes with them, or None if there is no response. Raises
    ProtocolError if the connection must end: the bytes are not a request, or its API or version is not served.
    """
    if connection.is_raw_sasl:
        return raw_sasl_answer(core, connection, frame)
    repeat = connection.repeat
    if repeat is not None and len(frame) == repeat.size and may_repeat(core, connection) and repeat.is_asked_by(frame):
        core.occurrences.request_handled.emit(int.from_bytes(repeat.api[:2]), connection)
        return repeat.answer_to(frame)
    if connection.routes is not None and frame[:2] == PRODUCE_KEY:
        answered = answer_by_route(core, connection, connection.routes, frame)
        if answered is not NO_ROUTE:
            return answered
    return handle(core, connection, frame)


def handle(core: BrokerCore, connection: Connection, frame: Buffer) -> Frames | Deferred[Frames]:
    """The general path: decodes a request, has its handler answer it, and encodes the answer."""
    header = read_request_header(frame)
    key, version = header.api_key, header.api_version
    entry = served_cache.get(key)
    if entry is None and key not in SERVED_KEYS:
        raise UnsupportedVersionError(f"{APIS[key].name} is not served")
    if connection.is_restricted and key not in BEFORE_AUTHENTICATION:
        check_session(core, connection, key)
    if entry is None:
        entry = served_api(key)
    api = entry.api
    if not api.low <= version <= api.latest_stable:
        if key != ApiKey.API_VERSIONS:
            raise UnsupportedVersionError(f"{api.name} version {version} is not served")
        unsupported = handlers.api_versions.unsupported_version(advertised_versions())
        return response_frame(api, 0, header.correlation_id, unsupported)
    if len(frame) > DECODED_AT_ONCE_BYTES_MAX:
        steps = large_in_steps(core, connection, frame, header, entry)
        return in_slices(
            core, connection, framed_in_steps(core, connection, api, version, header.correlation_id, steps)
        )
    # Bytes after the body are ignored, as in Kafka: librdkafka leaves some after its Metadata request.
    body, end = decode(entry.request_class, version, frame, header.body_at, REQUEST_ELEMENTS_MAX)
    core.occurrences.request_handled.emit(key, connection)
    request = Request(key, version, header.client_id, connection, body)
    answer = answer_to(core, entry, request, len(frame))
    if isinstance(answer, Routable):
        if end == len(frame):
            learn_route(core, connection, frame, version, answer)
        answer = answer.answer
    if answer is None:
        return None
    if isinstance(answer, Deferred):
        return frame_response(core, connection, api, version, header.correlation_id, answer)
    if isinstance(answer, GeneratorType):
        return in_slices(
            core, connection, framed_in_steps(core, connection, api, version, header.correlation_id, answer)
        )
    if isinstance(answer, Repeatable):
        buffers = response_frame(api, version, header.correlation_id, answer.message)
        connection.repeat = Repeat.of(frame, answer.holds, b"".join(buffers))
        return buffers
    return response_frame(api, version, header.correlation_id, answer)


def may_repeat(core: BrokerCore, connection: Connection) -> bool:
    """Whether answers may be repeated: not while sessions end, or requests are metered."""
    return not connection.is_restricted and not core.throttling.is_active


def answer_to(core: BrokerCore, entry: Served, request: Request, size_bytes: int) -> Any:
    """What the handler answers; where there are quotas, with the time that the client has to wait."""
    if not core.throttling.is_active:
        return entry.handle(core, request)
    began_ms = core.clock.steady_ms()
    answer = entry.handle(core, request)
    if isinstance(answer, Routable):
        return answer._replace(answer=core.throttling.add_wait(request, size_bytes, began_ms, answer.answer))
    return core.throttling.add_wait(request, size_bytes, began_ms, answer)


def answer_by_route(core: BrokerCore, connection: Connection, routes: Routes, frame: Buffer) -> RouteAnswer | NoRoute:
    """The answer to a produce request that is like an earlier one of the connection."""
    if not routes.hold(core.metadata.changes, connection.principal):
        connection.routes = None
        return NO_ROUTE
    if connection.is_restricted:
        check_session(core, connection, ApiKey.PRODUCE)
    meter = None
    if core.throttling.is_active:
        meter = partial(core.throttling.wait_for_route, len(frame), core.clock.steady_ms())
    answer = routes.answer(core, frame, meter)
    if answer is not NO_ROUTE:
        core.routed_requests += 1
        core.occurrences.request_handled.emit(ApiKey.PRODUCE, connection)
    return answer


def learn_route(core: BrokerCore, connection: Connection, frame: Buffer, version: int, routable: Routable) -> None:
    """Remembers how a produce request was answered."""
    routes = connection.routes
    if routes is None or not routes.hold(core.metadata.changes, connection.principal):
        routes = connection.routes = Routes(core.metadata.changes, connection.principal)
    routes.learn(frame, version, routable)


def large_in_steps(
    core: BrokerCore, connection: Connection, frame: Buffer, header: RequestHeader, entry: Served
) -> Steps[Any]:
    """Handles a large frame. It may have so many elements that even decoding it takes long."""
    version = header.api_version
    body, _ = yield from decode_in_steps(entry.request_class, version, frame, header.body_at, REQUEST_ELEMENTS_MAX)
    core.occurrences.request_handled.emit(header.api_key, connection)
    request = Request(header.api_key, version, header.client_id, connection, body)
    answer = answer_to(core, entry, request, len(frame))
    if isinstance(answer, GeneratorType):
        return (yield from answer)
    if isinstance(answer, Routable):
        return answer.answer
    return answer.message if isinstance(answer, Repeatable) else answer


def frame_response(
    core: BrokerCore, connection: Connection, api: Api, version: int, correlation_id: int, answer: Deferred[Any]
) -> Deferred[Frames]:
    """The response's buffers, when the answer is complete. The answer may be work, which can only begin then."""
    deferred: Deferred[Frames] = Deferred()

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
                # Others wait for what completes this answer, and its failure must not affect them.
                if connection.fail is None:
                    raise
                connection.fail(error)
            else:
                deferred.complete(buffers)

    answer.when_done(complete)
    return deferred


def begin_late(
    core: BrokerCore, connection: Connection, steps: Steps[Frames | Deferred[Frames]], deferred: Deferred[Frames]
) -> None:
    """Begins the work of a request that had to wait. Later requests of the connection may have been handled meanwhile."""
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
) -> Steps[Frames | Deferred[Frames]]:
    """The work of a request and of its response."""
    answer = yield from steps
    if isinstance(answer, GeneratorType):  # a deferred answer is not needed: its work is done here
        answer = yield from answer
    if answer is None:
        return None
    if isinstance(answer, Deferred):
        return frame_response(core, connection, api, version, correlation_id, answer)
    return (yield from response_frame_in_steps(api, version, correlation_id, answer))


def in_slices(
    core: BrokerCore, connection: Connection, steps: Steps[Frames | Deferred[Frames]]
) -> Frames | Deferred[Frames]:
    """The response, if the work is done in one slice. Otherwise the work continues, attached to the connection.

    Until it is done, no other request of the connection may be handled: requests are served in the order in which they
    arrive.
    """
    result = core.work.begin(steps)
    if not isinstance(result, Work):
        return result
    connection.work = result
    return result.deferred
