"""One client's connection: from received bytes to frames, and from answers to written bytes. It has no Kafka logic.

Receiving. All connections share one receive buffer, so an idle one costs next to nothing. A complete frame is copied out of
it once, and belongs to the request from then on. Only a large frame gets a buffer of its own, which grows with the bytes
that have arrived, never with the size that its length field claims.

Fairness and limits. What a connection sends is put off while it uses more than its share (`turns.py`). Reading from a
connection pauses while its client does not read its answers or has too many requests under way, while it waits for a login
or for memory, and while the journal is behind. `memory_budgets.py` limits the memory, `deadlines.py` the time.

Answers go out in the order of their requests: a request that waits keeps its slot, later answers wait for it.
`backlog.py` holds what the client has not read.
"""

import asyncio
from collections import deque
from functools import partial
from typing import cast

from headwater.broker.cluster import Endpoint
from headwater.broker.connection import UNAUTHENTICATED, Connection
from headwater.broker.dispatch import dispatch
from headwater.broker.failed_answers import failed_frame
from headwater.broker.memory_budgets import FIRST_ANSWER_BYTES_MAX, JOURNAL_WAITING_BYTES_MAX, READY_BYTES_MAX
from headwater.broker.shell.backlog import SLICE_BYTES, Backlog
from headwater.broker.shell.listeners import Listener
from headwater.broker.shell.server_side import ServerSide
from headwater.broker.shell.slots import Slot
from headwater.broker.turns import NEWCOMER_CREDIT_MS, SLICE_MS, TURN_MS_MAX
from headwater.effects.buffers import Buffer
from headwater.effects.logs import get_logger
from headwater.protocol.errors import ProtocolError
from headwater.protocol.frames import LENGTH_BYTES, REQUEST_HEADER_BYTES_MIN, SMALLEST_FRAME_BYTES, unpack_length
from headwater.replay.deferred import Deferred
from headwater.security.tls import certificate_principal

logger = get_logger(__name__)

STRANGER_FRAME_BYTES_MAX = 64 * 1024
LARGE_FRAME_BYTES = 64 * 1024  # a larger frame gets its own buffer
LARGE_FRAME_FIRST_BYTES = 1 << 20
LARGE_FRAME_FIRST_BYTES_MIN = 256 * 1024  # while memory for requests is short
REQUESTS_UNDER_WAY_MAX = 256
REQUESTS_OF_NEWCOMER = 8
WRITE_BUFFER_BYTES_HIGH = 64 * 1024
JOIN_BYTES_MAX = 32 * 1024


class ClientProtocol(asyncio.BufferedProtocol):
    """One client's connection."""

    __slots__ = (
        "accepted_s",
        "address",
        "answer_bytes_max",
        "backlog",
        "closing",
        "connection",
        "credit_ms",
        "credited_ms",
        "endpoint",
        "filled",
        "frame",
        "frame_bytes_max",
        "frame_size",
        "held_bytes",
        "is_stranger",
        "last_active_s",
        "listener",
        "listener_name",
        "opening",
        "pauses",
        "ready_bytes",
        "request_bytes",
        "requests",
        "server",
        "slots",
        "tail",
        "tail_bytes",
        "transport",
        "turn_number",
    )

    def __init__(
        self, server: "ServerSide[ClientProtocol]", listener: Listener, endpoint: Endpoint, address: str
    ) -> None:
        self.server = server
        self.listener, self.endpoint = listener, endpoint
        self.address, self.listener_name = address, listener.name
        self.transport: asyncio.Transport | None = None
        self.opening: asyncio.Task[None] | None = None  # TLS handshake under way
        self.connection = Connection(
            f"/{address}", endpoint, endpoint.first_principal or UNAUTHENTICATED, answer_room=self.answer_room
        )
        self.connection.fail = partial(self.answer_failure, None)
        self.connection.hold_answer = self.hold_answer
        self.connection.mute = partial(server.muting.mute, self)
        self.is_stranger = True
        self.requests = 0
        # Requests.
        self.frame_bytes_max = server.core.settings.socket_request_max_bytes
        if endpoint.has_sasl:
            self.connection.is_restricted = True
            self.frame_bytes_max = STRANGER_FRAME_BYTES_MAX
        self.tail = bytearray()  # the beginning of a small frame, or frames not handled while paused
        self.tail_bytes = 0  # the part of it that counts on a budget
        self.frame: bytearray | None = None  # a large frame
        self.frame_size = 0
        self.filled = 0
        self.request_bytes = 0  # on the budget: the large frame, and requests that await their answers
        self.pauses: set[str] = set()
        self.turn_number = 0
        self.credit_ms, self.credited_ms = NEWCOMER_CREDIT_MS, server.turns.steady_ms()
        # Answers.
        self.slots: deque[Slot] = deque()
        self.answer_bytes_max = FIRST_ANSWER_BYTES_MAX
        self.ready_bytes = 0  # on the budget: answers that wait for an earlier one
        self.held_bytes = 0  # on the budget: answers that are being made
        self.backlog: Backlog[ClientProtocol] = Backlog(self, server)
        self.accepted_s = self.last_active_s = server.loop.time()
        self.closing = False

    @property
    def is_unauthenticated(self) -> bool:
        """Whether it has yet to log in, or to finish its TLS handshake, before it may do anything."""
        return self.is_stranger and (self.endpoint.has_sasl or self.transport is None)

    @property
    def answer_bytes(self) -> int:
        """The bytes that it holds of the budget for answers."""
        return self.backlog.written_bytes + self.ready_bytes + self.held_bytes

    # -- asyncio's callbacks

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's class is not derived from asyncio's
        self.backlog.transport = self.transport
        self.opening = None
        if self.closing:
            self.transport.abort()
            return
        if self.endpoint.has_tls and not self.endpoint.has_sasl:
            tls = transport.get_extra_info("ssl_object")
            self.connection.principal = certificate_principal(tls.getpeercert(), self.listener.principal_of)
        self.last_active_s = self.server.loop.time()
        self.transport.set_write_buffer_limits(high=WRITE_BUFFER_BYTES_HIGH)

    def connection_lost(self, error: Exception | None) -> None:
        self.closing = True
        self.release_all()
        self.server.muting.forget(self)
        self.connection.closed()
        self.server.disconnected(self)

    def get_buffer(self, sizehint: int) -> memoryview:
        if self.frame is not None:
            return memoryview(self.frame)[self.filled :]
        return self.server.receive_buffer

    def buffer_updated(self, size: int) -> None:
        server = self.server
        self.last_active_s = server.loop.time()
        if not server.turns.begin(self):
            self.put_off(size)
            return
        if self.frame is not None:
            self.take_large(size)
        elif self.tail:
            self.tail += server.receive_buffer[:size]
            self.take_tail()
        else:
            self.take_received(size)
        server.after_event()
        server.turns.end(self)

    def put_off(self, size: int) -> None:
        """Keeps what has arrived until it is this connection's turn."""
        if self.closing or (self.frame is not None and not self.fill(size)):
            return
        if self.frame is None:
            self.tail += self.server.receive_buffer[:size]
            self.count_tail()
        self.give_way()

    def eof_received(self) -> bool:
        return False

    def pause_writing(self) -> None:
        self.backlog.is_full = True
        self.backlog.choke()

    def resume_writing(self) -> None:
        self.backlog.room_again()

    # -- frames

    def take_received(self, size: int) -> None:
        """Handles the content of the shared buffer: nearly always one complete frame."""
        data = self.server.receive_buffer
        if size >= SMALLEST_FRAME_BYTES and not self.pauses and not self.closing:
            (length,) = unpack_length(data, 0)
            if length == size - LENGTH_BYTES and length <= self.frame_bytes_max:
                self.handle(bytearray(data[LENGTH_BYTES:size]))
                return
        position = self.take_frames(data[:size])
        if position < size and self.frame is None and not self.closing:
            self.tail = bytearray(data[position:size])
            self.count_tail()

    def take_tail(self) -> None:
        """Handles the complete frames among what was kept back."""
        tail = self.tail
        self.tail = bytearray()
        position = self.take_frames(memoryview(tail))
        if position and self.frame is None:
            self.server.deadlines.partial.pop(self, None)  # the rest is a part of another frame
        if position < len(tail) and self.frame is None and not self.closing:
            self.tail = tail[position:]
        self.count_tail()

    def take_frames(self, data: memoryview) -> int:
        """Handles the complete frames at the beginning of `data`; returns the position after them."""
        position, size = 0, len(data)
        steady_ms = self.server.core.clock.steady_ms
        turn_answers = self.server.turn_answers
        turn_ends_ms = steady_ms() + (SLICE_MS if self.server.turns.queue else TURN_MS_MAX)
        while size - position >= LENGTH_BYTES and not self.pauses and not self.closing:
            (length,) = unpack_length(data, position)
            if not self.is_length_allowed(length):
                return size
            start = position + LENGTH_BYTES
            if size - start >= length:
                self.handle(bytearray(data[start : start + length]))
                position = start + length
                if steady_ms() > turn_ends_ms or turn_answers.is_spent:
                    self.give_way()
            elif length > LARGE_FRAME_BYTES:
                if self.begin_large(data[start:], length):
                    return size
                break
            else:
                break
        return position

    def is_length_allowed(self, length: int) -> bool:
        limit = self.frame_bytes_max
        if REQUEST_HEADER_BYTES_MIN <= length <= limit or (self.connection.is_raw_sasl and 0 <= length <= limit):
            return True
        when = " before authentication" if self.is_unauthenticated else ""
        self.fail(f"a frame claims {length} bytes; {REQUEST_HEADER_BYTES_MIN} to {limit} are allowed{when}")
        return False

    def count_tail(self) -> None:
        """Counts the tail's present size on the budget, and notes that the connection has a part of a frame."""
        size = len(self.tail)
        change, self.tail_bytes = size - self.tail_bytes, size
        requests, partial = self.server.requests, self.server.deadlines.partial
        if size:
            if self not in partial:
                partial[self] = self.last_active_s
                self.server.deadlines.arm()
        elif self.frame is None:
            partial.pop(self, None)
        if not self.is_unauthenticated:
            requests.used_bytes += change
            return
        requests.stranger_bytes += change
        if requests.are_strangers_over:
            self.server.deadlines.shed_strangers()

    def begin_large(self, start: memoryview, length: int) -> bool:
        """Gives a large frame a buffer; False if there is no memory for it now."""
        if length > self.server.requests.limit_bytes:
            self.fail(f"a frame of {length} bytes exceeds queued.max.request.bytes")
            return False
        is_ample = self.server.requests.is_ample_for(LARGE_FRAME_FIRST_BYTES)
        first = LARGE_FRAME_FIRST_BYTES if is_ample else LARGE_FRAME_FIRST_BYTES_MIN
        room = self.next_room(length, max(first, 2 * len(start)))
        if not self.reserve(room):
            return False
        self.frame = bytearray(room)
        self.frame_size, self.filled = length, len(start)
        self.frame[: len(start)] = start
        self.server.deadlines.partial[self] = self.last_active_s
        self.server.deadlines.arm()
        return True

    def take_large(self, size: int) -> None:
        if self.fill(size):
            frame = cast(bytearray, self.frame)
            self.release_frame()
            self.handle(frame)

    def fill(self, size: int) -> bool:
        """Adds received bytes; returns whether the large frame is now complete."""
        assert self.frame is not None
        self.filled += size
        if self.filled == self.frame_size:
            return True
        if self.filled == len(self.frame):
            self.enlarge_frame()
        return False

    def enlarge_frame(self) -> None:
        """Doubles the buffer of a frame; the connection waits if there is no memory."""
        assert self.frame is not None
        room = self.next_room(self.frame_size, 2 * len(self.frame))
        if self.reserve(room - len(self.frame)):
            larger = bytearray(room)
            larger[: self.filled] = self.frame
            self.frame = larger

    def next_room(self, length: int, step: int) -> int:
        """The next size of a frame's buffer: the full size if other connections wait for memory, so that none waits twice.

        Otherwise several could each hold a part and wait for the memory of the others.
        """
        return length if self.server.deadlines.is_memory_short else min(length, step)

    def release_frame(self) -> None:
        if self.frame is not None:
            self.release(len(self.frame))
            self.frame = None
            self.server.deadlines.partial.pop(self, None)

    def reserve(self, size: int) -> bool:
        """Reserves memory for a request. If there is none, the connection waits, or ends if too many wait already."""
        requests = self.server.requests
        if requests.has_room(size):
            requests.used_bytes += size
            self.request_bytes += size
            return True
        if requests.has_overdraft(0):
            self.wait_for_memory()
        else:
            self.fail("requests of all connections take more than queued.max.request.bytes")
        return False

    def wait_for_memory(self) -> None:
        if "memory" not in self.pauses and not self.closing:
            self.pause("memory")
            self.server.core.occurrences.throttled.emit(self.address, "memory")
            self.server.deadlines.wait_for_memory(self)

    def release(self, size: int) -> None:
        self.request_bytes -= size
        self.server.requests.used_bytes -= size
        if self.server.deadlines.hungry:
            self.server.deadlines.feed_hungry()

    def handle(self, frame: bytearray) -> None:
        """Dispatches one request, and arranges its answer."""
        self.requests += 1
        try:
            answer = dispatch(self.server.core, self.connection, frame)
        except Exception as error:  # noqa: BLE001 - it ends the request, or the connection
            answer = self.answer_failure(frame, error)
            if answer is None:
                return
        if isinstance(answer, Deferred):
            self.wait_for(answer, len(frame))
        elif answer is None:
            pass
        elif self.slots:
            slot = Slot(0)
            self.slots.append(slot)
            self.put_ready(slot, answer)
        else:
            self.write(answer)
        connection = self.connection
        if connection.work is not None:
            self.pause("work")
            connection.work.when_done(partial(self.work_done, frame, self.slots[-1]))
        if self.is_stranger:
            self.recognize()
        if connection.must_close:
            self.end_soon()
        if self.server.durability.journal.waiting_bytes > JOURNAL_WAITING_BYTES_MAX:
            self.server.wait_for_journal(self)

    def work_done(self, frame: bytearray, slot: Slot, error: Exception | None) -> None:
        """The connection's work is done, and its next request may be handled."""
        self.connection.work = None
        if error is not None:
            answer = self.answer_failure(frame, error)
            if answer is None:
                return
            self.fill_slot(slot, answer)
        self.server.loop.call_soon(self.resume, "work")

    def answer_failure(self, frame: bytearray | None, error: Exception) -> list[Buffer] | None:
        """The answer to a request that could not be handled. If there can be none, the connection is closed."""
        if isinstance(error, ProtocolError):
            self.fail(str(error))
            return None
        # The last line of defence: a defect in the broker ends this request, not the broker.
        logger.error("a request from %s could not be handled", self.address, exc_info=error)
        answer = failed_frame(frame) if frame is not None else None
        if answer is None:
            self.close()
        return answer

    def recognize(self) -> None:
        """The client is recognized: it has logged in, or sent a request if no login is needed."""
        if self.connection.principal == UNAUTHENTICATED or self.closing:
            return
        if self.is_unauthenticated:
            self.server.requests.stranger_bytes -= self.tail_bytes
            self.server.requests.used_bytes += self.tail_bytes
        self.is_stranger = False
        self.frame_bytes_max = self.server.core.settings.socket_request_max_bytes
        self.server.limits.recognize(self)

    # -- answers

    def wait_for(self, answer: Deferred[list[Buffer] | None], size: int) -> None:
        """Reserves a slot for an answer that comes later."""
        slot = Slot(size)
        self.slots.append(slot)
        self.request_bytes += size
        self.server.requests.used_bytes += size
        answer.when_done(lambda buffers: self.fill_slot(slot, buffers))
        if self.connection.is_busy:
            self.pause("login")
        if len(self.slots) >= REQUESTS_UNDER_WAY_MAX:
            self.pause("requests")
        if not self.server.requests.has_room(0):
            self.wait_for_memory()

    def fill_slot(self, slot: Slot, buffers: list[Buffer] | None) -> None:
        if self.closing:
            return
        self.release(slot.request_bytes)
        if self.held_bytes:
            self.hold_answer(-self.held_bytes)
        slots = self.slots
        if slots[0] is slot:
            slots.popleft()
            if buffers is not None:
                self.write(buffers)
            while slots and slots[0].is_ready:
                self.write_ready(slots.popleft())
        else:
            self.put_ready(slot, buffers)
        if not self.pauses and not self.is_stranger and not self.connection.must_close:
            return
        if self.is_stranger:
            self.recognize()
        if self.connection.must_close:
            self.end_soon()
        if not self.connection.is_busy:
            self.resume("login")
        if len(slots) < REQUESTS_UNDER_WAY_MAX // 2:
            self.resume("requests")

    def put_ready(self, slot: Slot, buffers: list[Buffer] | None) -> None:
        """Keeps an answer that has to wait for an earlier one."""
        slot.buffers, slot.is_ready = buffers, True
        if buffers is not None:
            slot.answer_bytes = sum(map(len, buffers))
            self.ready_bytes += slot.answer_bytes
            self.server.count_answers(slot.answer_bytes)
            if self.ready_bytes > READY_BYTES_MAX:
                self.pause("answers")

    def hold_answer(self, size: int) -> None:
        """Counts an answer that is made in steps, and so is in memory before it is written."""
        if not self.closing:
            self.held_bytes += size
            self.server.count_answers(size)

    def write_ready(self, slot: Slot) -> None:
        self.ready_bytes -= slot.answer_bytes
        self.server.answers.used_bytes -= slot.answer_bytes
        if slot.buffers is not None:
            self.write(slot.buffers)
        if "answers" in self.pauses and self.ready_bytes <= READY_BYTES_MAX:
            self.resume("answers")

    def answer_room(self) -> int:
        """How large the next answer may be, if its handler can choose. 0: it has to wait."""
        if self.backlog.is_choked or self.ready_bytes > READY_BYTES_MAX:
            return 0
        room = self.server.answers.room(is_newcomer=self.requests <= REQUESTS_OF_NEWCOMER)
        return min(room, self.answer_bytes_max, self.server.turn_answers.room())

    def write(self, buffers: list[Buffer]) -> None:
        if self.transport is None or self.closing:
            return
        size = len(buffers[0]) if len(buffers) == 1 else sum(map(len, buffers))
        if self.backlog.is_choked:
            self.backlog.keep(buffers, size)
        elif size <= JOIN_BYTES_MAX:
            self.transport.write(buffers[0] if len(buffers) == 1 else b"".join(buffers))
        else:
            self.answer_bytes_max = max(self.answer_bytes_max, 2 * size)
            self.server.turn_answers.spend(size)
            if size > SLICE_BYTES:
                self.backlog.send(buffers, size)
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
        if self.frame is not None:
            self.take_large(0)
        elif self.tail:
            self.take_tail()
        self.server.after_event()
        if not self.pauses and not self.closing:
            self.transport.resume_reading()

    def give_way(self) -> None:
        """Lets the other connections have a turn."""
        if "turn" not in self.pauses and not self.closing:
            self.pause("turn")
            self.server.turns.wait(self)

    def journal_has_room(self) -> None:
        """Resumes. Requests that were kept back are handled when it is this connection's turn."""
        if self.tail:
            self.give_way()
        self.resume("journal")

    def next_turn(self) -> None:
        self.resume("turn")

    # -- the end

    def end_soon(self) -> None:
        """Closes when all answers have been sent; no further request is handled."""
        if self.slots:
            self.pause("end")
        else:
            self.close()

    def fail(self, reason: str) -> None:
        """Closes the connection because of what its client sent, or failed to send."""
        self.server.core.occurrences.protocol_failed.emit(self.address, reason)
        self.server.log.warning("connections closed", "connection from %s closed: %s", self.address, reason)
        if self.backlog.is_choked:
            self.abort()
        else:
            self.close()

    def give_up(self, reason: str) -> None:
        """Breaks the connection to a client that does not read."""
        self.server.core.occurrences.slow_reader_closed.emit(self.address, reason)
        self.server.log.warning("slow readers closed", "connection from %s closed: %s", self.address, reason)
        self.abort()

    def close(self) -> None:
        """Closes when pending answers have been sent, or after `deadlines.CLOSING_S`."""
        if self.closing:
            return
        self.backlog.flush()
        self.closing = True
        self.release_all()
        if self.transport is not None:
            self.server.deadlines.closing[self] = self.server.loop.time()
            self.server.deadlines.arm()
            self.transport.close()
        elif self.opening is not None:
            self.opening.cancel()

    def abort(self) -> None:
        """Breaks the connection, discarding pending answers."""
        self.closing = True
        self.release_all()
        if self.transport is not None:
            self.transport.abort()
        elif self.opening is not None:
            self.opening.cancel()

    def release_all(self) -> None:
        """Releases all memory; nothing more is read or handled."""
        self.frame = None
        self.release(self.request_bytes)
        self.tail = bytearray()
        self.count_tail()
        self.slots.clear()
        self.server.answers.used_bytes -= self.ready_bytes + self.held_bytes
        self.ready_bytes = self.held_bytes = 0
        self.backlog.clear()
        self.server.deadlines.forget(self)
