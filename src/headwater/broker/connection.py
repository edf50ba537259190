"""What the core knows of a client's connection, and of one of its requests."""

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
    """A request that waits for something else than the disk."""

    def stop(self) -> None:
        """Nobody is left to be answered."""
        ...


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
    mute: Callable[[float], None] = lambda wait_ms: None  # nothing more is read from it for so long
    waits: set[Wait] = field(default_factory=set)
    repeat: Repeat | None = None
    routes: "Routes | None" = None  # how produce requests that are like earlier ones are answered
    work: Work | None = None  # what is under way; nothing else of the connection is handled until it is done
    late_work: set[Work] = field(default_factory=set)  # of requests that had to wait before
    fail: Callable[[Exception], object] | None = None  # the shell ends the connection

    @property
    def address(self) -> str:
        """The client's address without Java's leading slash."""
        return self.client_host.lstrip("/")

    @property
    def is_of_planes(self) -> bool:
        """Whether it is this broker's own planes, and not a user of theirs: only they can log in so at that listener."""
        return self.endpoint.is_private and self.principal == f"User:{PLANES_USER}"

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
