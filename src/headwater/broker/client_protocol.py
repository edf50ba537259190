"""One client's connection: from received bytes to frames, from answers to written bytes. It holds no logic of Kafka's.

Receiving. All connections share one receive buffer, so an idle one costs next to nothing. A frame that is whole in it is
copied out once and belongs to the request from then on. Only a large frame gets a buffer of its own, which grows with
what has arrived, never with what its length field claims.

Fairness and limits. A connection that has sent a lot in a row gives way to the others. One that does not read its
answers, has too many requests under way, or meets a journal that is behind, is not read from until that changes.

Answers go out in the order of their requests: a request that waits keeps its slot, later answers queue up behind it.
"""

import asyncio
import logging
from collections import deque
from typing import TYPE_CHECKING, cast

from headwater.broker.cluster import Endpoint
from headwater.broker.dispatch import UNAUTHENTICATED, Connection, dispatch
from headwater.broker.listeners import Listener
from headwater.effects.buffers import Buffer
from headwater.effects.waits import Deferred
from headwater.protocol.errors import ProtocolError
from headwater.protocol.frames import LENGTH_BYTES, REQUEST_HEADER_BYTES_MIN, unpack_length
from headwater.security.tls import certificate_principal

if TYPE_CHECKING:
    from headwater.broker.server import Server

logger = logging.getLogger(__name__)

LARGE_FRAME_BYTES = 64 * 1024
LARGE_FRAME_FIRST_BYTES = 1 << 20
TURN_BYTES_MAX = 1 << 20
REQUESTS_UNDER_WAY_MAX = 256
WRITE_BUFFER_BYTES_HIGH = 4 << 20
JOURNAL_WAITING_BYTES_MAX = 64 << 20
JOIN_BYTES_MAX = 32 * 1024
SMALLEST_FRAME_BYTES = LENGTH_BYTES + REQUEST_HEADER_BYTES_MIN


class Slot:
    """A place in the order of answers."""

    __slots__ = ("buffers", "is_ready")

    def __init__(self) -> None:
        self.buffers: list[Buffer] | None = None
        self.is_ready = False


class ClientProtocol(asyncio.BufferedProtocol):
    """One client's connection."""

    __slots__ = (
        "closing",
        "connection",
        "endpoint",
        "filled",
        "frame",
        "frame_size",
        "last_active_s",
        "listener",
        "pauses",
        "server",
        "slots",
        "tail",
        "transport",
        "turn_bytes",
    )

    def __init__(self, server: "Server", listener: Listener, endpoint: Endpoint) -> None:
        self.server = server
        self.listener, self.endpoint = listener, endpoint
        self.transport: asyncio.Transport | None = None
        self.connection = Connection("")
        self.tail = bytearray()  # the beginning of a small frame, or frames not handled while paused
        self.frame: bytearray | None = None  # a large frame
        self.frame_size = 0
        self.filled = 0
        self.slots: deque[Slot] = deque()
        self.pauses: set[str] = set()
        self.turn_bytes = 0
        self.last_active_s = 0.0
        self.closing = False

    # -- asyncio's callbacks

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's own class has no base of asyncio's
        peer = transport.get_extra_info("peername")
        self.connection = Connection(
            f"/{peer[0]}" if peer else "/", self.endpoint, self.endpoint.first_principal or UNAUTHENTICATED
        )
        if self.endpoint.has_sasl:
            self.connection.is_restricted = True
        elif self.endpoint.has_tls:
            tls = transport.get_extra_info("ssl_object")
            self.connection.principal = certificate_principal(tls.getpeercert(), self.listener.principal_of)
        self.last_active_s = self.server.loop.time()
        self.transport.set_write_buffer_limits(high=WRITE_BUFFER_BYTES_HIGH)
        self.server.connected(self)

    def connection_lost(self, error: Exception | None) -> None:
        self.closing = True
        self.release_frame()
        self.tail = bytearray()
        self.slots.clear()
        self.connection.closed()
        self.server.disconnected(self)

    def get_buffer(self, sizehint: int) -> memoryview:
        if self.frame is not None:
            return memoryview(self.frame)[self.filled :]
        return self.server.receive_buffer

    def buffer_updated(self, size: int) -> None:
        self.last_active_s = self.server.loop.time()
        self.turn_bytes += size
        if self.frame is not None:
            self.take_large(size)
        elif self.tail:
            self.tail += self.server.receive_buffer[:size]
            self.take_tail()
        else:
            self.take_received(size)
        if self.turn_bytes > TURN_BYTES_MAX:
            self.pause("turn")
            self.server.loop.call_soon(self.next_turn)
        self.server.after_event()

    def eof_received(self) -> bool:
        return False

    def pause_writing(self) -> None:
        self.pause("write")

    def resume_writing(self) -> None:
        self.resume("write")

    # -- frames

    def take_received(self, size: int) -> None:
        """Handles what lies in the common buffer: nearly always one whole frame."""
        data = self.server.receive_buffer
        if size >= SMALLEST_FRAME_BYTES and not self.pauses and not self.closing:
            (length,) = unpack_length(data, 0)
            if length == size - LENGTH_BYTES and length <= self.server.core.settings.socket_request_max_bytes:
                self.handle(bytearray(data[LENGTH_BYTES:size]))
                return
        position = self.take_frames(data[:size])
        if position < size and self.frame is None and not self.closing:
            self.tail = bytearray(data[position:size])

    def take_tail(self) -> None:
        """Handles what has been kept back, as far as it is whole."""
        tail = self.tail
        self.tail = bytearray()
        position = self.take_frames(memoryview(tail))
        if position < len(tail) and self.frame is None and not self.closing:
            self.tail = tail[position:]

    def take_frames(self, data: memoryview) -> int:
        """Handles the whole frames at the beginning of `data`; returns the position behind what was taken."""
        position, size = 0, len(data)
        while size - position >= LENGTH_BYTES and not self.pauses and not self.closing:
            (length,) = unpack_length(data, position)
            if not self.is_length_allowed(length):
                return size
            start = position + LENGTH_BYTES
            if size - start >= length:
                self.handle(bytearray(data[start : start + length]))
                position = start + length
            elif length > LARGE_FRAME_BYTES:
                self.begin_large(data[start:], length)
                return size
            else:
                break
        return position

    def is_length_allowed(self, length: int) -> bool:
        limit = self.server.core.settings.socket_request_max_bytes
        if REQUEST_HEADER_BYTES_MIN <= length <= limit or (self.connection.is_raw_sasl and 0 <= length <= limit):
            return True
        self.fail(f"a frame claims {length} bytes, allowed are {REQUEST_HEADER_BYTES_MIN} to {limit}")
        return False

    def begin_large(self, start: memoryview, length: int) -> None:
        room = min(length, max(LARGE_FRAME_FIRST_BYTES, 2 * len(start)))
        if not self.server.reserve(room):
            self.fail("requests of all connections take more than queued.max.request.bytes")
            return
        self.frame = bytearray(room)
        self.frame_size, self.filled = length, len(start)
        self.frame[: len(start)] = start

    def take_large(self, size: int) -> None:
        assert self.frame is not None
        self.filled += size
        if self.filled == self.frame_size:
            frame = self.frame
            self.release_frame()
            self.handle(frame)
        elif self.filled == len(self.frame):
            room = min(self.frame_size, 2 * len(self.frame))
            if not self.server.reserve(room - len(self.frame)):
                self.release_frame()
                self.fail("requests of all connections take more than queued.max.request.bytes")
                return
            larger = bytearray(room)
            larger[: self.filled] = self.frame
            self.frame = larger

    def release_frame(self) -> None:
        if self.frame is not None:
            self.server.release(len(self.frame))
            self.frame = None

    def handle(self, frame: bytearray) -> None:
        """Dispatches one request and takes care of its answer."""
        try:
            answer = dispatch(self.server.core, self.connection, frame)
        except Exception as error:  # noqa: BLE001 - it ends the connection
            self.request_failed(error)
            return
        if answer is None:
            return
        if isinstance(answer, Deferred):
            slot = Slot()
            self.slots.append(slot)
            answer.when_done(lambda buffers: self.fill_slot(slot, buffers))
        elif self.slots:
            slot = Slot()
            slot.buffers, slot.is_ready = answer, True
            self.slots.append(slot)
        else:
            self.write(answer)
        if self.connection.work is not None:
            self.pause("work")
            self.connection.work.when_done(self.work_done)
        if self.connection.must_close and not self.slots:
            self.close()
        if len(self.slots) >= REQUESTS_UNDER_WAY_MAX:
            self.pause("requests")
        if self.server.core.store.journal.waiting_bytes > JOURNAL_WAITING_BYTES_MAX:
            self.server.wait_for_journal(self)

    def work_done(self, error: Exception | None) -> None:
        """What the connection asked for is done, and its next request may be handled."""
        self.connection.work = None
        if error is None:
            self.server.loop.call_soon(self.resume, "work")
        else:
            self.request_failed(error)

    def request_failed(self, error: Exception) -> None:
        if isinstance(error, ProtocolError):
            self.fail(str(error))
            return
        # The last line of defence: a defect of ours ends this connection, not the broker.
        logger.error("a request from %s could not be handled", self.connection.client_host, exc_info=error)
        self.close()

    # -- answers

    def fill_slot(self, slot: Slot, buffers: list[Buffer] | None) -> None:
        slot.buffers, slot.is_ready = buffers, True
        slots = self.slots
        while slots and slots[0].is_ready:
            ready = slots.popleft().buffers
            if ready is not None:
                self.write(ready)
        if "requests" in self.pauses and len(slots) < REQUESTS_UNDER_WAY_MAX // 2:
            self.resume("requests")

    def write(self, buffers: list[Buffer]) -> None:
        if self.transport is None or self.closing:
            return
        if len(buffers) == 1:
            self.transport.write(buffers[0])
        elif sum(map(len, buffers)) <= JOIN_BYTES_MAX:
            self.transport.write(b"".join(buffers))
        else:
            self.transport.writelines(buffers)

    # -- pauses

    def pause(self, reason: str) -> None:
        if self.transport is None or self.closing:
            return
        if not self.pauses:
            self.transport.pause_reading()
        self.pauses.add(reason)

    def resume(self, reason: str) -> None:
        if reason not in self.pauses:
            return
        self.pauses.discard(reason)
        if self.pauses or self.closing or self.transport is None:
            return
        if self.tail:
            self.take_tail()
            self.server.after_event()
        if not self.pauses and not self.closing:
            self.transport.resume_reading()

    def next_turn(self) -> None:
        self.turn_bytes = 0
        self.resume("turn")

    # -- the end

    def fail(self, reason: str) -> None:
        """Closes the connection for what its client sent."""
        self.server.core.statistics.protocol_errors += 1
        logger.warning("connection from %s closed: %s", self.connection.client_host, reason)
        self.close()

    def close(self) -> None:
        if self.transport is not None and not self.closing:
            self.closing = True
            self.transport.close()
