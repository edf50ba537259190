"""Routes: a short way for the produce requests that a connection sends again and again.

Theory. A producer's requests differ in their correlation id and their batch, and in nothing else. So what the general path
has found out about one of them holds for the next: that the client may write to the topic, which log it is, and what the
answer looks like. A *route* is what was found out. It is made from a request that the general path has answered. A request
with the same bytes then needs only its batch checked and appended, by the same code as on the general path.

    request   api, version │ correlation id │ client id, acks, topic, partition … │ size of the batch │ batch │ no tags
                the same       differs        the same: the key of the route        differs           differs  the same
    answer    length │ correlation id │ topic, partition, no error │ offset, append time, log start │ no throttling
                                        the same: `head`             differ                           the same: `foot`

A route is only a shortcut: its answer is, byte for byte, the one that the general path gives. What is not plain is left to
the general path, before anything has changed: a batch that is refused, one of a transaction, one that has to be looked at
record by record.

When routes end. What a route knows follows from the metadata: topics, leaders, ACLs, users, configurations. The metadata
count their changes, and with a change all routes of a connection are forgotten; so they are when the client is somebody
else. Whether the log is still open, and what the topic wants of a batch, is looked up for each request.
"""

from collections.abc import Callable
from enum import Enum
from functools import lru_cache
from struct import Struct
from typing import Any, Final, NamedTuple, Protocol, TypeAlias

from headwater.broker.validation import LongInspectionError
from headwater.effects.buffers import Buffer
from headwater.protocol.apis import APIS, ApiKey
from headwater.protocol.errors import ApiError
from headwater.protocol.frames import CORRELATION_ID, LENGTH_BYTES, request_header_version, response_frame
from headwater.protocol.messages.produce import ProduceRequest, ProduceResponse
from headwater.protocol.varint import VarintError, read_uvarint, uvarint
from headwater.replay.deferred import Deferred
from headwater.replay.sync_number import NO_SYNC, SyncNumber

API = APIS[ApiKey.PRODUCE]
PRODUCE_KEY = bytes(2)
ROUTES_MAX = 64  # of a connection; a client that writes to more partitions in rotation learns none
LOG_START_VERSION = 5  # the first with all three numbers in its answer
NUMBERS = Struct(">qqq")  # an answer's base offset, append time and log start offset
UNLIKELY_NUMBERS = (-0x5EED_0001_5EED_0002, -0x5EED_0003_5EED_0004, -0x5EED_0005_5EED_0006)
THROTTLE_TIME = Struct(">i")
UNLIKELY_TIME_MS = -0x5EED_0007
NO_TAGS = bytes(3)  # of the partition, the topic and the request
SIZE_BYTES = 4
LAYOUTS_MAX = 1024
PartitionResponse: TypeAlias = ProduceResponse.PartitionProduceResponse
# A batch's base offset, its append time in ms (-1: the records' own times hold), and the log's start offset.
Numbers: TypeAlias = tuple[int, int, int]
# Records what a request has used; returns how many ms its client has to wait.
Meter: TypeAlias = Callable[[Any], int]
Answer: TypeAlias = list[Buffer] | Deferred[list[Buffer] | None] | None


class NoRoute(Enum):
    """The request has to take the general path."""

    NO_ROUTE = "no route"


NO_ROUTE: Final = NoRoute.NO_ROUTE


class Routable(NamedTuple):
    """A handler's answer to a request of which others may be like it.

    `append` appends the batch of such a request; it returns what the answer says, and the sync that makes that durable. It
    raises ApiError and LongInspectionError if that needs the general path.
    """

    answer: ProduceResponse | Deferred[ProduceResponse] | None
    body: ProduceRequest
    request: Any  # what a meter is called with
    append: Callable[[Buffer], tuple[Numbers, SyncNumber]]


class RouteParts(Protocol):
    """What answers by routes need of the broker."""

    def answer_when_durable(self, sync: SyncNumber, answer: list[Buffer] | None) -> Deferred[list[Buffer] | None]: ...


@lru_cache(LAYOUTS_MAX)
def request_layout(key_bytes: int) -> Struct:
    """A request's API and version, its correlation id and its key."""
    return Struct(f">4s4s{key_bytes}s")


@lru_cache(LAYOUTS_MAX)
def answer_layout(head_bytes: int, middle_bytes: int, foot_bytes: int) -> Struct:
    """An answer's length, correlation id, head, three numbers, what comes before the throttle time, that time and the foot."""
    return Struct(f">i4s{head_bytes}sqqq{middle_bytes}si{foot_bytes}s")


class Route:
    """What is the same in all requests of one kind, and in their answers."""

    __slots__ = (
        "acks",
        "api",
        "append",
        "foot",
        "head",
        "is_flexible",
        "key",
        "key_end",
        "middle",
        "pack",
        "request",
        "size_bytes",
        "unpack",
    )

    def __init__(self, key: bytes, version: int, routable: Routable) -> None:
        self.api = PRODUCE_KEY + version.to_bytes(2, "big")
        self.key, self.key_end = key, CORRELATION_ID.stop + len(key)
        self.unpack = request_layout(len(key)).unpack_from
        self.acks = routable.body.acks
        self.append, self.request = routable.append, routable.request
        self.is_flexible = request_header_version(API, version) >= 2
        topic_data = routable.body.topic_data[0]
        numbered = PartitionResponse(topic_data.partition_data[0].index, 0, *UNLIKELY_NUMBERS)
        topic = ProduceResponse.TopicProduceResponse(topic_data.topic_id, topic_data.name, [numbered])
        frame = b"".join(response_frame(API, version, 0, ProduceResponse([topic], UNLIKELY_TIME_MS)))
        self.head, rest = frame[CORRELATION_ID.stop :].split(NUMBERS.pack(*UNLIKELY_NUMBERS))
        self.middle, self.foot = rest.split(THROTTLE_TIME.pack(UNLIKELY_TIME_MS))
        self.size_bytes = len(frame) - LENGTH_BYTES
        self.pack = answer_layout(len(self.head), len(self.middle), len(self.foot)).pack

    def batch_of(self, frame: Buffer) -> memoryview | None:
        """The batch of a request with this key, if nothing but empty tags follows it."""
        at, end = self.key_end, len(frame)
        if self.is_flexible:
            end -= len(NO_TAGS)
            try:
                size, start = read_uvarint(frame, at)
            except VarintError:
                return None
            size -= 1
            if frame[end:] != NO_TAGS:
                return None
        else:
            start = at + SIZE_BYTES
            size = int.from_bytes(frame[at:start], "big", signed=True)
        return memoryview(frame)[start:end] if size == end - start else None


class Routes:
    """The routes of one connection."""

    __slots__ = ("key_ends", "latest", "metadata_changes", "principal", "routes")

    def __init__(self, metadata_changes: int, principal: str) -> None:
        self.metadata_changes = metadata_changes  # how many there had been when the first route was learned
        self.principal = principal
        self.routes: dict[bytes, Route | None] = {}  # None: a request with that key was seen once
        self.key_ends: list[int] = []  # where a key may end in a frame
        self.latest: Route | None = None  # the one that the last request took

    def hold(self, metadata_changes: int, principal: str) -> bool:
        """Whether all that the routes were made from is still so."""
        return self.metadata_changes == metadata_changes and self.principal == principal

    def learn(self, frame: Buffer, version: int, routable: Routable) -> None:
        """Makes a route of a request that has come twice, and can be recognized."""
        batch = routable.body.topic_data[0].partition_data[0].records
        if batch is None or version < LOG_START_VERSION:
            return
        is_flexible = request_header_version(API, version) >= 2
        around_bytes = len(uvarint(len(batch) + 1)) + len(NO_TAGS) if is_flexible else SIZE_BYTES
        end = len(frame) - len(batch) - around_bytes
        key = bytes(frame[CORRELATION_ID.stop : end])
        if key not in self.routes:
            if len(self.routes) >= ROUTES_MAX:
                self.routes.clear()
                self.key_ends.clear()
                self.latest = None
            self.routes[key] = None
            return
        route = Route(key, version, routable)
        if route.batch_of(frame) == batch:
            self.routes[key] = route
            if end not in self.key_ends:
                self.key_ends.append(end)

    def find(self, frame: Buffer) -> Route | None:
        """The route that knows a request."""
        for end in self.key_ends:
            route = self.routes.get(bytes(frame[CORRELATION_ID.stop : end]))
            if route is not None and frame[: CORRELATION_ID.start] == route.api:
                self.latest = route
                return route
        return None

    def answer(self, broker: RouteParts, frame: Buffer, meter: Meter | None = None) -> Answer | NoRoute:
        """The answer to a request that one of the routes knows. Where there are quotas, `meter` says how long to wait."""
        route = self.latest
        if route is None or len(frame) < route.key_end:
            route = self.find(frame)
            if route is None:
                return NO_ROUTE
        api, correlation_id, key = route.unpack(frame)
        if key != route.key or api != route.api:
            route = self.find(frame)
            if route is None:
                return NO_ROUTE
        batch = route.batch_of(frame)
        if batch is None:
            return NO_ROUTE
        try:
            numbers, sync = route.append(batch)
        except (ApiError, LongInspectionError):
            return NO_ROUTE
        wait_ms = 0 if meter is None else meter(route.request)
        if route.acks == 0:
            return None
        answer: list[Buffer] = [
            route.pack(route.size_bytes, correlation_id, route.head, *numbers, route.middle, wait_ms, route.foot)
        ]
        return answer if route.acks == 1 or sync == NO_SYNC else broker.answer_when_durable(sync, answer)
