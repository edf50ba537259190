"""The broker's end of a simulated connection. It behaves as a connection of the real server does, without a socket."""

from collections import deque
from collections.abc import Callable
from typing import Protocol

from headwater.broker.connection import Connection
from headwater.broker.core import BrokerCore
from headwater.broker.dispatch import dispatch
from headwater.effects.buffers import Buffer
from headwater.effects.work import Work
from headwater.protocol.errors import ProtocolError
from headwater.replay.deferred import Deferred
from headwater.testing.simulate.world import World

LENGTH_BYTES = 4


class RunningBroker(Protocol):
    """The part of the broker's process that the end of a connection needs."""

    world: World

    @property
    def running_core(self) -> BrokerCore: ...

    def after_event(self) -> None:
        """A request was handled: now run the work that it has caused."""

    def defect(self, error: Exception) -> None:
        """A request raised an exception that cannot be sent as an answer."""

    def ended(self, end: "BrokerEnd") -> None:
        """The connection is closed."""


class Slot:
    """Keeps an answer's place: a connection's answers are sent in the order of their requests."""

    __slots__ = ("frame", "is_ready")

    def __init__(self) -> None:
        self.frame: bytes | None = None
        self.is_ready = False


class BrokerEnd:
    """The broker's end of a connection: decodes frames, dispatches them, and sends the answers in order."""

    def __init__(self, node: RunningBroker, send: Callable[[bytes], None]) -> None:
        self.node = node
        self.core = node.running_core
        self.send = send
        self.connection = Connection("/127.0.0.1", fail=self.fail)
        self.received = bytearray()
        self.slots: deque[Slot] = deque()
        self.is_open = True

    def receive(self, data: bytes) -> None:
        if self.is_open:
            self.received += data
            self.handle_received()

    def handle_received(self) -> None:
        while self.is_open and self.connection.work is None and len(self.received) >= LENGTH_BYTES:
            end = LENGTH_BYTES + int.from_bytes(self.received[:LENGTH_BYTES], "big")
            if len(self.received) < end:
                return
            frame = self.received[LENGTH_BYTES:end]
            del self.received[:end]
            self.handle(frame)

    def handle(self, frame: bytearray) -> None:
        try:
            answer = dispatch(self.core, self.connection, frame)
        except ProtocolError as error:
            self.fail(error)
            return
        except Exception as error:  # noqa: BLE001 - a defect: it is reported, and the run continues
            self.node.defect(error)
            self.close()
            return
        if isinstance(answer, Deferred):
            self.wait_for(answer)
        elif answer is not None:
            slot = Slot()
            self.slots.append(slot)
            self.fill(slot, answer)
        self.node.after_event()

    def wait_for(self, answer: Deferred[list[Buffer] | None]) -> None:
        slot = Slot()
        self.slots.append(slot)
        if isinstance(self.connection.work, Work):
            self.connection.work.when_done(self.work_done)
        answer.when_done(lambda buffers: self.fill(slot, buffers))

    def work_done(self, error: Exception | None) -> None:
        self.connection.work = None
        if error is not None:
            self.node.defect(error)
            self.close()
        else:
            self.node.world.later(0, self.handle_received)

    def fill(self, slot: Slot, buffers: list[Buffer] | None) -> None:
        slot.is_ready = True
        slot.frame = b"".join(buffers) if buffers is not None else None
        while self.slots and self.slots[0].is_ready:
            frame = self.slots.popleft().frame
            if frame is not None and self.is_open:
                self.send(frame)

    def fail(self, error: Exception) -> None:
        """Reports a malformed request, or work that failed: no client of the simulation sends malformed requests."""
        self.node.world.find(f"a connection was closed: {error!r}")
        self.close()

    def close(self) -> None:
        if self.is_open:
            self.is_open = False
            self.connection.closed()
            self.node.ended(self)
