"""A client's connection and its requests, as the core sees them."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from headwater.broker.cluster import PLAIN_ENDPOINT, Endpoint
from headwater.effects.buffers import Buffer
from headwater.effects.work import Work
from headwater.protocol.frames import CORRELATION_ID
from headwater.security.acls import ANONYMOUS
from headwater.security.sasl import Exchange

if TYPE_CHECKING:
    from headwater.broker.produce_routes import Routes

UNAUTHENTICATED = ""
PLANES_USER = "headwater"
UNLIMITED_BYTES = 2**31 - 1


class Wait(Protocol):
    """A request that waits for something other than the disk."""

    def stop(self) -> None:
        """Call this when the connection is gone and no answer is needed."""
        ...


class Repeatable(NamedTuple):
    """An answer that the same request gets again, without a handler, while `holds` returns true. `holds` also does its work.

    Members send the same heartbeat every few seconds, thousands of them a second to an otherwise idle broker.
    """

    message: Any
    holds: Callable[[], bool]


class Repeat(NamedTuple):
    """A connection's last Repeatable request and its answer, each split around its correlation id."""

    size: int
    api: bytes
    rest: bytes
    holds: Callable[[], bool]
    answer: tuple[bytes, bytes]

    @classmethod
    def of(cls, frame: Buffer, holds: Callable[[], bool], answer: bytes) -> "Repeat":
        start, end = CORRELATION_ID.start, CORRELATION_ID.stop
        return cls(len(frame), bytes(frame[:start]), bytes(frame[end:]), holds, (answer[:start], answer[end:]))

    def is_asked_by(self, frame: Buffer) -> bool:
        """Whether a frame of the same size is the same request, and still has the same answer."""
        return frame[CORRELATION_ID.stop :] == self.rest and frame[: CORRELATION_ID.start] == self.api and self.holds()

    def answer_to(self, frame: Buffer) -> list[Buffer]:
        before, after = self.answer
        return [b"".join((before, frame[CORRELATION_ID], after))]


@dataclass(slots=True, eq=False)
class Connection:
    """A client's connection, as the core sees it."""

    client_host: str
    endpoint: Endpoint = PLAIN_ENDPOINT
    principal: str = ANONYMOUS
    groups: tuple[str, ...] = ()  # further principals, which its token names
    is_restricted: bool = False  # it has to authenticate first, or again after a time
    sasl: "SaslState | None" = None
    is_token: bool = False  # it has authenticated with a delegation token
    is_raw_sasl: bool = False  # after SaslHandshake 0 the exchange uses bare frames
    must_close: bool = False  # after the current answer
    is_busy: bool = False  # a login is being checked; no other request is handled meanwhile
    answer_room: Callable[[], int] = lambda: UNLIMITED_BYTES  # how large the next answer may be; 0: it has to wait
    hold_answer: Callable[[int], None] = lambda size: None  # bytes of an answer that is being made
    mute: Callable[[float], None] = lambda wait_ms: None  # nothing more is read from it for so long
    waits: set[Wait] = field(default_factory=set)
    repeat: Repeat | None = None
    routes: "Routes | None" = None  # how produce requests that are like earlier ones are answered
    work: Work | None = None  # work under way; no other request of the connection is handled until it is done
    late_work: set[Work] = field(default_factory=set)  # work of requests that had to wait before
    fail: Callable[[Exception], object] | None = None  # ends the connection, in the shell

    @property
    def address(self) -> str:
        """The client's address without Java's leading slash."""
        return self.client_host.lstrip("/")

    @property
    def is_of_planes(self) -> bool:
        """Whether this is a connection of the broker's own planes, not of their users: only planes can log in so at that listener."""
        return self.endpoint.is_private and self.principal == f"User:{PLANES_USER}"

    def closed(self) -> None:
        """Call this when the connection is gone and no answer is needed."""
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
    """The state of a connection's authentication."""

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
